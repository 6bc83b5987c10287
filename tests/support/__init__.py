"""Helpers of the tests: servers, proxies, clients, and what several files share."""
