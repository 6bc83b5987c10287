"""Shared by the tests of ``test_reconcile.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from rwf import Client


def kinds(client: Client, workflow_id: str) -> list[tuple[str, str | None]]:
    return [(repair.kind, repair.step) for repair in client.reconcile(workflow_id).repairs]
