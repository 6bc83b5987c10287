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
