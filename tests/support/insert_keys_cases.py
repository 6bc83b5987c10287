"""Shared by the tests of ``test_insert_keys.py`` in ``contract/`` and ``internals/``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rwf import Client
from rwf.model.views import WorkflowView
from tests.support.flows import flow

BADLY = "ended_badly"


NOW = timedelta(0)


def ended(client: Client, key: str, status: str = "failed", **options: Any) -> WorkflowView:
    """A workflow of one step that has ended in this state."""
    view = client.insert(flow("a"), key=key, **options)
    client.complete_step(view.id, "a", status)
    return client.get(view.id)
