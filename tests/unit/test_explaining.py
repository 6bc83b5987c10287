"""Explanations of literal records: blockers, root causes, sentences, statuses (section 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from rwf.model import operator_status as operator
from rwf.model.references import Ref
from rwf.model.states import StepState
from rwf.model.views import Blocker, QueueView
from rwf.ops import explanation as explain
from rwf.ops import root_causes
from rwf.ops.explanation import Awaited
from rwf.ops.root_causes import Holds, root_causes_of_step, root_causes_of_workflow
from rwf.protocol.headers import Header
from rwf.protocol.records import Record
from rwf.protocol.waits import Wait

AT = datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
STATIC = b"2,1,9,1700000000123,,,wf"
OPEN = Header.parse(STATIC, b"a1;40,,")
REQUESTED = Header.parse(STATIC, b"a1;40,,,30:why,0,0,0,0,0,0,,")
OTHER = Header.parse(b"9" + STATIC[1:], b"a1;40,,")
NOW = 1_700_000_000_123 + 2_500


def step(name: str, state: str, *, cause: str = "", walked: str = "", parents: str = "") -> Record:
    """A step by the letter of its state, which it entered half a second ago."""
    claim = "tok:900:1:w%201" if state == "e" else ""
    due = "800" if state == "r" else ""
    moving = f"{state},1,500,,2,5,0,,,{cause},{due},{walked},{claim}"
    return Record.named(name, f"{moving}||0||||{parents}|".encode())


def blocked(record: Record, *parents: Record, header: Header = OPEN, **known: Any) -> list[Blocker]:
    return explain.blockers(header, record, parents, NOW, **known)


def code_and_summary(found: list[Blocker]) -> list[tuple[str, str]]:
    return [(one.code, one.summary) for one in found]


# --- actions


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("p", "retry skip cancel"),
        ("a", "complete retry skip cancel"),
        ("e", "complete_with_force retry_with_force skip_with_force cancel_with_force"),
        ("w", "complete retry skip cancel"),
        ("r", "complete retry skip cancel"),
        ("c", ""),
        ("f", "retry skip"),
        ("x", "retry skip"),
    ],
)
def test_what_an_operator_may_do(state: str, found: str) -> None:
    record = step("a", state)
    assert " ".join(explain.actions(OPEN, record, held_down=False)) == found
    assert explain.actions(OTHER, record, held_down=False) == ()
    held_down = explain.actions(OPEN, record, held_down=True)
    assert list(held_down) == [one for one in found.split() if not one.startswith("retry")]


def test_options_are_named() -> None:
    assert explain.actions(REQUESTED, step("a", "e"), held_down=False) == (
        "complete_with_force",
        "retry_with_force_and_reopen",
        "skip_with_force_and_reopen",
        "cancel_with_force",
    )
    assert explain.actions(REQUESTED, step("a", "f"), held_down=False) == (
        "retry_with_reopen",
        "skip_with_reopen",
    )


# --- blockers


def test_a_step_that_waits_for_others() -> None:
    parents = [step("p", "p"), step("e", "e"), step("r", "r"), step("w", "w"), step("a", "a")]
    retryable, open_ = blocked(step("a", "p"), *parents)
    assert (retryable.code, retryable.summary) == (
        "waiting_on_retryable_dependency",
        "waits for r to run again",
    )
    assert (retryable.scope, retryable.since) == ("step", AT + timedelta(seconds=0.5))
    assert retryable.retry_at is None
    assert retryable.details == {"steps": ["r"], "count": 1}
    assert (open_.code, open_.summary) == (
        "waiting_on_dependencies",
        "waits for p, e, w and 1 more",
    )
    assert open_.details == {"steps": ["p", "e", "w", "a"], "count": 4}


def test_three_names_are_all_told() -> None:
    (found,) = blocked(step("a", "p"), step("x", "a"), step("y", "a"), step("z", "a"))
    assert found.summary == "waits for x, y, z"


@pytest.mark.parametrize(
    ("parents", "walked", "codes"),
    [
        ("", "", "release_in_progress"),
        ("c", "", "release_in_progress"),
        ("a", "h", "release_in_progress waiting_on_dependencies"),
        ("ca", "", "release_in_progress waiting_on_dependencies"),
        ("cr", "", "release_in_progress waiting_on_retryable_dependency"),
        ("a", "", "waiting_on_dependencies"),
        ("r", "", "waiting_on_retryable_dependency"),
        ("ca", "b", "missing_dependency_result waiting_on_dependencies"),
    ],
)
def test_why_a_step_is_pending(parents: str, walked: str, codes: str) -> None:
    above = [step(f"{letter}{n}", letter) for n, letter in enumerate(parents)]
    found = blocked(step("a", "p", walked=walked), *above)
    assert [one.code for one in found] == codes.split()


@pytest.mark.parametrize(
    ("missing", "summary", "details"),
    [
        (None, "the result that its input refers to was missing when it was claimed", {}),
        (
            Ref("x"),
            "its input refers to the result of x, which does not exist",
            {"step": "x", "path": None},
        ),
        (
            Ref("x", "a.b"),
            "its input refers to the result of x at a.b, which does not exist",
            {"step": "x", "path": "a.b"},
        ),
    ],
)
def test_a_missing_result(missing: Ref | None, summary: str, details: dict[str, Any]) -> None:
    (found,) = blocked(step("a", "p", walked="b"), missing=missing)
    assert (found.code, found.summary) == ("missing_dependency_result", summary)
    assert found.details == details


def test_a_step_that_is_available() -> None:
    asked = QueueView(name="default", available=1, oldest_at=None, asked_at=AT, served=True)
    left = asked.model_copy(update={"served": False})
    rows = [
        (asked, True, True, "available in queue default, which has not handed it out yet"),
        (left, False, True, "available in queue default, which no worker serves"),
        (None, False, False, "available in queue default, which no worker serves"),
    ]
    for queue, served, before, summary in rows:
        (found,) = blocked(step("a", "a"), queue=queue)
        assert (found.code, found.summary) == ("waiting_for_worker", summary)
        assert found.details == {
            "queue": "default",
            "waiting_seconds": 2.0,
            "served": served,
            "served_before": before,
        }
    never = left.model_copy(update={"asked_at": None})
    assert blocked(step("a", "a"), queue=never)[0].details["served_before"] is False
    early = explain.blockers(OPEN, step("a", "a"), [], NOW - 2_100)
    assert early[0].details["waiting_seconds"] == 0


def test_a_step_that_runs_or_will_run_again() -> None:
    (runs,) = blocked(step("a", "e"))
    assert (runs.code, runs.summary) == ("executing", "w 1 runs it")
    ends = AT + timedelta(seconds=0.9)
    assert runs.details == {"leased_by": "w 1", "lease_expires_at": ends, "attempt": 2}
    (again,) = blocked(step("a", "r"))
    assert (again.code, again.summary) == ("retry_scheduled", "it failed, and will run again")
    assert again.retry_at == AT + timedelta(seconds=0.8)


@pytest.mark.parametrize(
    ("swallowed_by", "more"),
    [(None, ""), ("s/1", "; without a dedupe_key of its own it would be a duplicate of s/1")],
)
def test_a_step_that_waits_for_a_signal(swallowed_by: str | None, more: str) -> None:
    wait = Wait.parse(b"1,w,17000000001234560007,,,,,,,,|go|order%205").view("0-x", "a")
    known = Awaited(wait, swallowed_by)
    details = {
        "signal": "go",
        "correlation_key": "order 5",
        "deadline": None,
        "registered_at": wait.registered_at,
        "swallowed_by": swallowed_by,
    }
    (found,) = blocked(step("a", "w"), wait=known)
    assert found.summary == f"waits for signal go, correlation key 'order 5'{more}"
    assert (found.code, found.details) == ("waiting_on_signal", details)
    (found,) = blocked(step("a", "t", cause="t"), wait=known)
    assert (found.code, found.summary) == ("expired_wait", "no signal came before its deadline")
    assert found.details == details
    assert blocked(step("a", "t", cause="t"))[0].details == {}


def test_a_step_that_has_ended() -> None:
    assert blocked(step("a", "c", cause="c")) == []
    assert blocked(step("a", "x", cause="o")) == []
    assert code_and_summary(blocked(step("a", "f"))) == [
        ("step_failed", "it was reported as failed")
    ]
    assert code_and_summary(blocked(step("a", "d"))) == [
        ("step_failed", "it was given up, or has no attempt left")
    ]
    (found,) = blocked(step("a", "x", cause="d"), step("x", "f"), step("y", "f"))
    assert (found.code, found.summary) == (
        "cancelled_by_dependency",
        "cancelled because x, y did not complete",
    )
    assert found.details == {"steps": ["x", "y"], "count": 2}


def test_a_cancel_request_comes_first_while_a_step_is_open() -> None:
    request, _ = blocked(step("a", "e"), header=REQUESTED)
    assert request.model_dump() == {
        "code": "cancel_requested",
        "summary": "a cancel request stands",
        "scope": "workflow",
        "since": AT + timedelta(seconds=0.03),
        "retry_at": None,
        "details": {"reason": "why"},
    }
    assert blocked(step("a", "c"), header=REQUESTED) == []


# --- root causes


def holds(*edges: tuple[str, str], **states: str) -> Holds:
    """``holds(("a", "b"), a="f", b="p")``: a holds back b. A cancelled step was cancelled by a
    parent."""
    found = Holds()
    above = {}
    for name, letter in states.items():
        cause = {"x": "d", "o": "o"}.get(letter[0], "")
        walked = letter[1:]
        above[name] = step(name, letter[0].replace("o", "x"), cause=cause, walked=walked)
    for parent, child in edges:
        found.add(child, above[parent])
    parents = {parent for parent, _ in edges}
    found.records |= {name: record for name, record in above.items() if name not in parents}
    return found


def test_root_causes_of_a_step_are_the_far_ends_nearest_first() -> None:
    edges = [("x", "a"), ("y", "m"), ("m", "a"), ("z", "m"), ("y", "other")]
    graph = holds(*edges, a="p", m="p", x="e", y="f", z="r", other="x")
    causes, count = root_causes_of_step(graph, "a")
    assert [(one.step, one.code, one.path) for one in causes] == [
        ("x", "executing", ("x", "a")),
        ("y", "step_failed", ("y", "m", "a")),
        ("z", "retry_scheduled", ("z", "m", "a")),
    ]
    assert count == 3
    assert {(one.held_count, one.truncated) for one in causes} == {(1, False)}
    assert causes[0].legal_next_steps == ("wait", "complete_with_force")
    assert causes[1].state is StepState.FAILED


def test_a_step_whose_parents_have_ended_holds_itself() -> None:
    graph = holds(a="p")
    causes, _ = root_causes_of_step(graph, "a")
    assert [(one.code, one.path) for one in causes] == [("release_in_progress", ("a",))]
    lacking = holds(a="pb")
    causes, _ = root_causes_of_step(lacking, "a")
    assert causes[0].code == "missing_dependency_result"


def test_a_cycle_of_held_steps_ends() -> None:
    graph = holds(("a", "b"), ("b", "a"), a="p", b="p")
    assert graph.paths("a") == {"b": "a"}
    assert graph.held_by("a", 10) == 1


def test_a_standing_request_has_to_be_reopened() -> None:
    graph = holds(("x", "a"), a="x", x="f")
    graph.requested = True
    (cause,), _ = root_causes_of_step(graph, "a")
    assert cause.legal_next_steps == ("inspect_step_result", "recover_with_reopen")


def test_root_causes_of_a_workflow_come_by_how_much_they_hold() -> None:
    edges = [("x", "a"), ("y", "b"), ("b", "c"), ("y", "d")]
    graph = holds(*edges, a="p", b="x", c="x", d="x", x="e", y="f", w="w", r="r", run="a")
    causes, count = root_causes_of_workflow(graph)
    assert [(one.step, one.held_count, one.truncated) for one in causes] == [
        ("y", 3, False),
        ("x", 1, False),
        ("w", 0, False),
        ("r", 0, False),
    ]
    assert count == 4
    assert all(one.path == (one.step,) for one in causes)


@pytest.mark.parametrize(("visits", "counted", "others"), [(3, 1, ["lone"]), (9, 3, [])])
def test_how_much_is_held_may_be_a_lower_bound(
    visits: int, counted: int, others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each root cause gets its share of the visits, and at least its own children."""
    monkeypatch.setattr(root_causes, "_VISITS", visits)
    chains = [[root, f"{root}1", f"{root}2", f"{root}3"] for root in "xyz"]
    edges = [edge for chain in chains for edge in pairwise(chain)]
    held = {name: "x" for chain in chains for name in chain[1:]}
    graph = holds(*edges, **dict.fromkeys("xyz", "e"), **held, **dict.fromkeys(others, "p"))
    causes, _ = root_causes_of_workflow(graph)
    assert [(one.step, one.held_count, one.truncated) for one in causes] == [
        *((name, counted, True) for name in "xyz"),
        *((name, 0, False) for name in others),
    ]


def test_long_paths_lose_their_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_causes, "_PATH_NAMES", 10)
    monkeypatch.setattr(root_causes, "_SHORTEST_CUT", 4)
    names = [f"s{number}" for number in range(6)]
    edges = [*pairwise(names), ("near", "s4"), ("near", "s5")]
    graph = holds(*edges, **(dict.fromkeys(names, "x") | {"s0": "f", "near": "f"}))
    for target, path in (("s4", "s0 s1 s2 s3 s4"), ("s5", "s0 s1 ... s5")):
        near, far = root_causes_of_step(graph, target)[0]
        assert near.path == ("near", target)
        assert " ".join(far.path) == path
    graph = holds(*pairwise(names), **(dict.fromkeys(names, "x") | {"s0": "f"}))
    assert root_causes_of_step(graph, "s5")[0][0].path == tuple(names)


# --- sentences


def test_a_step_in_a_sentence() -> None:
    waits = blocked(step("a", "p"), step("x", "e"))
    graph = holds(("x", "a"), a="p", x="e")
    causes, _ = root_causes_of_step(graph, "a")
    assert explain.step_diagnosis(step("a", "p"), waits, causes) == (
        "a is pending: waits for x; held by x (executing)"
    )
    assert explain.step_diagnosis(step("x", "p"), waits, causes) == "x is pending: waits for x"
    assert explain.step_diagnosis(step("a", "c"), [], []) == "a has completed"
    cancelled = step("a", "x", cause="o")
    assert explain.step_diagnosis(cancelled, [], []) == "a is cancelled: operator_cancelled"


@pytest.mark.parametrize(
    ("moving", "with_cause", "sentence"),
    [
        (b"a1c2;9,,", True, "available: 2 of 9 steps completed; x (executing) holds 1"),
        (b"a1c2;9,,", False, "available: 2 of 9 steps completed"),
        (b"a1;9,,,3:,0,0,0,0,0,0,,", True, "a cancel request stands: 0 of 9 steps completed"),
        (b"f9;9,,9,,0,0,0,0,0,0,,", True, "ended failed (step_failed): 0 of 9 steps completed"),
    ],
)
def test_a_workflow_in_a_sentence(moving: bytes, with_cause: bool, sentence: str) -> None:
    causes, _ = root_causes_of_workflow(holds(("x", "a"), a="p", x="e"))
    view = Header.parse(STATIC, moving).view("0-x", None)
    assert explain.workflow_diagnosis(view, causes if with_cause else []) == sentence


def test_a_root_cause_that_holds_nothing_but_the_workflow() -> None:
    causes, _ = root_causes_of_workflow(holds(w="w"))
    view = Header.parse(STATIC, b"w1;9,,").view("0-x", None)
    said = explain.workflow_diagnosis(view, causes)
    assert said == "pending: 0 of 9 steps completed; w (waiting_on_signal)"


# --- what an operator reads first

STEP_STATUS = {
    "pending": "Waiting",
    "available": "Runnable",
    "executing": "Runnable",
    "awaiting_signal": "Waiting",
    "retryable": "Waiting",
    "completed": "Resolved",
    "failed": "Needs Review",
    "discarded": "Needs Review",
    "cancelled": "Resolved",
    "expired": "Needs Review",
}
OPEN_STATES = ("pending", "available", "executing", "awaiting_signal", "retryable")


@pytest.mark.parametrize(("state", "status"), STEP_STATUS.items())
def test_the_status_of_a_step(state: str, status: str) -> None:
    own = StepState(state)
    assert operator.step_status(own, frozenset({"waiting_on_dependencies"})) == status
    blocking = "Blocked" if state in OPEN_STATES else status
    assert operator.step_status(own, frozenset(), deserted=True) == blocking
    for code in (
        "waiting_on_retryable_dependency",
        "missing_dependency_result",
        "cancel_requested",
    ):
        assert operator.step_status(own, frozenset({code, "executing"})) == blocking


@pytest.mark.parametrize(
    ("moving", "status"),
    [
        (b"a1;9,,", "Runnable"),
        (b"e1;9,,", "Runnable"),
        (b"r1;9,,", "Runnable"),
        (b"w1;9,,", "Waiting"),
        (b"c1;9,,", "Resolved"),
        (b"x1;9,,", "Resolved"),
        (b"f1;9,,", "Needs Review"),
        (b"t1;9,,", "Needs Review"),
        (b"a1f1;9,,", "Needs Review"),
        (b"a1;9,,,3:,0,0,0,0,0,0,,", "Blocked"),
    ],
)
def test_the_status_of_a_workflow(moving: bytes, status: str) -> None:
    view = Header.parse(STATIC, moving).view("0-x", None)
    assert operator.workflow_status(view) == status
    assert operator.workflow_status(view, review=True) == "Needs Review"
    acknowledged = view.model_copy(update={"acknowledged_at": view.inserted_at})
    assert operator.workflow_status(acknowledged, review=True) == "Resolved"
