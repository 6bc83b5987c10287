"""Helpers of the tests: servers, proxies, clients, and code that several files share."""
