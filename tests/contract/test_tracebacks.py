"""The traceback of a handler's exception is kept with its attempt (contract §8)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rwf import Client, CommandRejected, Discard, Fail, Retry, Worker, Workflow
from rwf.model.views import ResultView
from tests.support.commandline import Cli
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.workers import run_to_end

LONGEST = 16_384
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="rwf.worker")


def result_of(client: Client, function: Callable[..., Any], **options: Any) -> ResultView:
    """The only attempt of a step with this handler."""
    worker = Worker(client, reconcile=False, **options)
    worker.step("work")(function)
    step: dict[str, Any] = {"input": {"pin": SECRET}, "max_attempts": 1}
    view = client.insert(Workflow("w").add("a", worker="work", **step))
    run_to_end(worker, client, view.id)
    found = client.result(view.id, "a")
    assert found is not None
    return found


def charge(pin: str) -> None:
    raise ValueError("declined")


async def charge_async(pin: str) -> None:
    await asyncio.sleep(0)
    charge(pin)


def test_it_is_that_of_a_plain_handler_from_its_own_frame_on(client: Client) -> None:
    found = result_of(client, charge)
    assert found.summary == "ValueError: declined"
    assert found.traceback is not None
    head, file, line, last = found.traceback.splitlines()
    assert head == "Traceback (most recent call last):"
    assert file.startswith(f'  File "{__file__}", line ')
    assert file.endswith(", in charge")
    assert line == '    raise ValueError("declined")'
    assert last == "ValueError: declined"


def test_it_is_that_of_a_coroutine_too(one_client: Client) -> None:
    found = result_of(one_client, charge_async)
    assert found.traceback is not None
    frames = [line for line in found.traceback.splitlines() if line.startswith("  File")]
    assert [frame.rpartition(" ")[2] for frame in frames] == ["charge_async", "charge"]


def test_it_tells_causes_and_no_values(one_client: Client) -> None:
    def failing(pin: str) -> None:
        try:
            charge(pin)
        except ValueError as error:
            raise RuntimeError("no charge") from error

    found = result_of(one_client, failing)
    assert found.traceback is not None
    assert found.traceback.index("ValueError: declined") < found.traceback.index("no charge\n")
    assert "direct cause" in found.traceback
    assert SECRET not in found.traceback


@pytest.mark.parametrize("kind", [Fail, Discard])
def test_an_outcome_is_no_error_and_has_none(one_client: Client, kind: type[Fail]) -> None:
    def ended() -> None:
        raise kind("declined")

    assert result_of(one_client, ended).traceback is None


def test_an_outcome_has_that_of_its_cause(one_client: Client) -> None:
    def ended(pin: str) -> None:
        try:
            charge(pin)
        except ValueError as error:
            raise Fail("declined") from error

    found = result_of(one_client, ended)
    assert (found.status, found.summary) == ("failed", "declined")
    assert found.traceback is not None
    assert "in charge" in found.traceback


def test_a_step_that_polls_has_none(one_client: Client) -> None:
    runs = []

    def poll() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise Retry("not yet", in_=0, count=False) from ValueError()

    worker = Worker(one_client)
    worker.step("work")(poll)
    view = one_client.insert(Workflow("w").add("a", worker="work"))
    run_to_end(worker, one_client, view.id)
    assert [each.traceback for each in one_client.results(view.id)] == [None]


class Card(BaseModel):
    pin: int


def test_input_that_is_not_valid_is_not_told(one_client: Client) -> None:
    def typed(card: Card) -> None: ...

    found = result_of(one_client, typed)
    assert found.status == "failed"
    assert SECRET not in f"{found.summary} {found.traceback}"


def test_one_that_times_out_tells_where_it_was(one_client: Client) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    worker = Worker(one_client, reconcile=False)
    worker.step("work")(slow)
    view = one_client.insert(Workflow("w").add("a", worker="work", timeout=0.05, max_attempts=1))
    run_to_end(worker, one_client, view.id)
    found = one_client.result(view.id, "a")
    assert found is not None
    assert found.summary == "timed out after 0.05 s"
    assert "await asyncio.sleep(60)" in (found.traceback or "")


def test_of_a_long_one_the_end_is_kept(one_client: Client) -> None:
    def verbose() -> None:
        raise ValueError("x" * 20_000 + "é" * 1_000 + " at the end")

    found = result_of(one_client, verbose)
    assert found.traceback is not None
    assert found.traceback.startswith("...\nxxx")
    assert found.traceback.endswith("éé at the end\n")
    assert len(found.traceback.encode()) == LONGEST


def test_deep_recursion_is_told_by_its_innermost_frames(one_client: Client) -> None:
    def deep() -> None:
        other()

    def other() -> None:
        deep()

    found = result_of(one_client, deep)
    assert found.traceback is not None
    assert found.traceback.count('  File "') == 100
    assert "\nRecursionError: " in found.traceback


def test_a_worker_may_keep_none(one_client: Client) -> None:
    found = result_of(one_client, charge, tracebacks=False)
    assert (found.summary, found.traceback) == ("ValueError: declined", None)


# --- reported by hand


def test_each_attempt_keeps_its_own(client: Client) -> None:
    view = client.insert(flow("a", max_attempts=2))
    client.complete_step(view.id, "a", "retryable", retry_in=0, traceback="first")
    client.complete_step(view.id, "a", "retryable", command_id="c", traceback="second")
    again = client.complete_step(view.id, "a", "retryable", command_id="c", traceback="third")
    assert again.outcome == "duplicate"
    found = client.results(view.id)
    assert [(each.attempt, each.traceback) for each in found] == [(1, "first"), (2, "second")]
    first = client.result(view.id, "a", attempt=1)
    assert first == found[0]
    client.recover_step(view.id, "a", "retry")
    client.complete_step(view.id, "a")
    assert [each.traceback for each in client.results(view.id)] == ["first", "second", None]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", None),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * LONGEST + "y", "...\n" + "x" * (LONGEST - 5) + "y"),
        ("é" * LONGEST, "...\n" + "é" * ((LONGEST - 4) // 2)),
        ("\ud800", "?"),
    ],
    ids=["empty", "longest", "longer", "wide", "surrogate"],
)
def test_its_last_bytes_are_kept(one_client: Client, given: str, kept: str | None) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", "failed", traceback=given)
    found = one_client.result(view.id, "a")
    assert found is not None
    assert found.traceback == kept


@pytest.mark.parametrize(
    "options", [{"traceback": b"x"}, {"traceback": "x", "count": False}], ids=["bytes", "uncounted"]
)
def test_what_cannot_be_kept_is_refused(one_client: Client, options: dict[str, Any]) -> None:
    view = one_client.insert(flow("a"))
    with pytest.raises(CommandRejected) as refused:
        one_client.complete_step(view.id, "a", "retryable", **options)
    assert refused.value.reason_code == "invalid_argument"


def test_many_are_read_in_replies_of_bounded_size(one_client: Client) -> None:
    view = one_client.insert(flow("a", max_attempts=200))
    for number in range(100):
        text = f"{number:03}" * (LONGEST // 3)
        one_client.complete_step(view.id, "a", "retryable", retry_in=0, traceback=text)
    found = one_client.results(view.id)
    assert [each.traceback[:3] for each in found if each.traceback] == [
        f"{number:03}" for number in range(100)
    ]


def test_show_prints_it_without_control_characters(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    cli = Cli(one_server.url, tmp_path)
    view = one_client.insert(flow("a"))
    text = "Traceback:\n  File x\r\nValueError: \x1b[31mred\x07 é\n"
    one_client.complete_step(view.id, "a", "failed", summary="s", traceback=text)
    shown = cli.ok("show", view.id, "a")
    lines = ["Traceback:", "  File x\\r", "ValueError: \\x1b[31mred\\x07 é"]
    assert "".join(f"    {line}\n" for line in lines) in shown
    assert cli.json("show", view.id, "a")["results"][0]["traceback"] == text
