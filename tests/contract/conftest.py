"""Fixtures of the contract tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.commandline import Cli
from tests.servers import AnyServer


@pytest.fixture
def cli(one_server: AnyServer, tmp_path: Path) -> Cli:
    """The command line on ``one_server``."""
    return Cli(one_server.url, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up at once when its server is away."""
    monkeypatch.setattr("rwf.transport.patience._PAUSES", (0.0,))
