"""Shared by the tests of ``test_metrics.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest

from rwf import Client, metrics


def fetched(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return cast(bytes, answer.read()).decode()


def scrape(client: Client) -> str:
    registry = CollectorRegistry()
    registry.register(metrics.FleetCollector(client))
    return generate_latest(registry).decode()
