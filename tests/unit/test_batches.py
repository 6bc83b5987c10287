"""Completions that travel in one call: how many."""

from __future__ import annotations

import pytest

from rwf.ops import complete
from rwf.ops.complete import Item, batches
from rwf.protocol.functions.completion import ReportedStep


def cut(*items: Item) -> list[list[int]]:
    return [[number for number, _ in batch] for batch in batches(enumerate(items))]


def item(step: str, payload: bytes = b"", note: bytes = b"", workflow_id: str = "0-x") -> Item:
    report = ReportedStep(
        slot=0,
        step=step,
        asked="c",
        call="x",
        command_id="",
        lease="",
        retry_ms=None,
        jitter="0",
        force=False,
        uncounted=False,
        payload=payload,
        note=note,
    )
    return Item(workflow_id, step, len(payload) + len(note), report)


def test_a_call_holds_64() -> None:
    assert cut(*(item(f"s{number}") for number in range(130))) == [
        list(range(64)),
        list(range(64, 128)),
        [128, 129],
    ]


def test_a_step_stands_once_in_a_call() -> None:
    steps = [item(name) for name in ("a", "b", "a", "b", "b")]
    assert cut(*steps, item("b", workflow_id="0-y")) == [[0, 1], [2, 3], [4, 5]]


def test_a_call_is_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "_BYTES_PER_CALL", 10)
    large = item("l", b"x" * 20)
    small = [item(f"s{number}", b"xxxx", b"n") for number in range(5)]
    assert cut(large, *small) == [[0], [1, 2], [3, 4], [5]]
    assert cut(*small[:1], large, *small[1:]) == [[0], [1], [2, 3], [4, 5]]
