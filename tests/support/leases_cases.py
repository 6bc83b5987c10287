"""Shared by the tests of ``test_leases.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from typing import Any

from rwf import Client
from rwf.model.views import ClaimedStep
from tests.support.flows import until_past

SHORT = 0.01


def claim(client: Client, limit: int = 1, **options: Any) -> list[ClaimedStep]:
    return client.claim(["default"], worker_id="w", limit=limit, **options)


def pass_by(client: Client, claimed: ClaimedStep) -> None:
    """Waits until the lease has passed."""
    until_past(client, claimed.lease_expires_at)
