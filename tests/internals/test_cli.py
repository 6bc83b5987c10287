"""White-box cases beside those of ``contract/test_cli.py``."""

from __future__ import annotations

import pytest

from rwf import Client
from rwf.model.states import PauseReason
from rwf.ops.claims import pause
from tests.support.commandline import Cli

# --- insert -----------------------------------------------------------------------------------


def test_an_input_without_an_end(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.cli.commands._MAX_INPUT", 1_000_000)
    assert "input_too_large" in cli.refused(1, "insert", "/dev/zero")


def test_a_step_that_no_worker_can_run_shows_as_blocked(cli: Cli, one_client: Client) -> None:
    """Though it is retryable: no retry helps before somebody has changed something."""
    workflow_id = cli.inserted()
    claims = one_client.claim(["default"], worker_id="old")
    one_client._run(pause(one_client._ctx, claims, PauseReason.NO_HANDLER))
    first = cli.json("show", workflow_id)["steps"][0]
    assert (first["name"], first["operator_status"]) == ("fetch", "Blocked")
    assert cli.json("explain", workflow_id, "fetch")["operator_status"] == "Blocked"
    assert "  no_handler, again at " in cli.ok("show", workflow_id)
    assert "fetch  [Blocked, retryable]" in cli.ok("graph", workflow_id)
