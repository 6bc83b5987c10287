"""The runner of tickets in a process of an executor, where its thread cannot begin."""

from __future__ import annotations

import threading

import pytest

from rwf import Client, Handlers
from rwf.worker import tickets


def test_a_runner_whose_loop_cannot_be_made_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_loop(main: object) -> None:
        main.close()  # type: ignore[attr-defined]
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(tickets, "run_to_end", no_loop)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # which prints it
    with Client.fake() as client, pytest.raises(RuntimeError, match="could not be started"):
        tickets.StepRunner(client, Handlers())
