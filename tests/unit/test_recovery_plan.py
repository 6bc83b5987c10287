"""The plan of a recovery, row by row: a graph and its states, a command, the states after it."""

from __future__ import annotations

import pytest

from rwf.model.recovery import Planned, cancelling_parent, plan
from rwf.model.states import EdgePolicy, RecoveryAction, RecoveryScope, StepCause, StepState

_STATES = {
    "p": (StepState.PENDING, None),
    "a": (StepState.AVAILABLE, None),
    "e": (StepState.EXECUTING, None),
    "w": (StepState.AWAITING_SIGNAL, None),
    "r": (StepState.RETRYABLE, None),
    "c": (StepState.COMPLETED, StepCause.COMPLETED),
    "f": (StepState.FAILED, StepCause.STEP_FAILED),
    "t": (StepState.EXPIRED, StepCause.EXPIRED_WAIT),
    "d": (StepState.CANCELLED, StepCause.CANCELLED_BY_DEPENDENCY),
    "o": (StepState.CANCELLED, StepCause.OPERATOR_CANCELLED),
    "!": (StepState.CANCELLED, StepCause.OPERATOR_CANCELLED),
    "b": (StepState.PENDING, None),
}


def planned(text: str) -> list[Planned]:
    """``"a=f b=d:a c=p:a,+b"``: a has failed, b was cancelled by it, c waits for both.

    ``o`` was cancelled by a request, ``!`` by an operator's own command, ``b`` lacks a result.
    """
    steps = []
    for word in text.split():
        name, _, rest = word.partition("=")
        letter, _, parents = rest.partition(":")
        edges = [
            (one.lstrip("+"), EdgePolicy.CONTINUE if one[0] == "+" else EdgePolicy.CANCEL)
            for one in parents.split(",")
            if one
        ]
        steps.append(Planned(name, *_STATES[letter], edges, letter == "!", letter == "b"))
    return steps


@pytest.mark.parametrize(
    ("graph", "command", "changes"),
    [
        # A retry places its own step; a step that is available or waits stays.
        ("a=f", "retry a step", "a>available"),
        ("a=c b=f:a", "retry b step", "b>available"),
        ("a=a b=f:a", "retry b step", "b>pending"),
        ("a=a", "retry a step", ""),
        ("a=a b=p:a", "retry b blocked", ""),
        ("x=c a=b:x", "retry a step", "a>available"),
        ("a=e", "retry a step", "a>available"),
        ("a=f b=d:+a", "retry a step", "a>available"),
        # Skips and cancels end the step, and its descendants are placed by that.
        ("a=f b=d:a c=d:b", "skip a blocked", "a>completed b>available c>pending"),
        ("a=f b=d:a", "skip a step", "a>completed"),
        ("a=a b=p:a c=p:b", "cancel a step", "a>cancelled b>cancelled c>cancelled"),
        ("a=a b=p:+a", "cancel a step", "a>cancelled b>available"),
        ("z=a a=a b=p:+a,z", "cancel a step", "a>cancelled"),
        # Blocked: steps that the step had cancelled, over any number of edges, and that no other
        # parent cancels.
        ("a=f b=d:a c=d:b", "retry a blocked", "a>available b>pending c>pending"),
        ("a=f b=d:a", "retry a step", "a>available"),
        ("a=f z=f b=d:a,z c=d:b", "retry a blocked", "a>available"),
        ("a=f z=f b=d:a,z c=r:+b", "retry a blocked", "a>available"),
        ("a=f z=f b=d:a,+z", "retry a blocked", "a>available b>pending"),
        ("a=f z=c b=d:a,z", "retry a blocked", "a>available b>pending"),
        ("a=f z=f b=d:+a,z", "retry a blocked", "a>available"),
        ("a=f z=c b=d:+a,z", "retry a blocked", "a>available"),
        ("a=f b=!:a", "retry a blocked", "a>available"),
        ("a=f b=c:+a", "retry a blocked", "a>available"),
        # Steps released by an end that is taken back are pending again, unless they have begun.
        (
            "a=f b=a:+a c=r:+a d=e:+a e=c:+a f=w:+a",
            "retry a step",
            "a>available b>pending c>pending",
        ),
        ("a=f b=a:+a x=a", "retry a blocked", "a>available b>pending"),
        # Downstream: every descendant, whatever it was.
        ("a=c b=c:a c=f:+b x=c", "retry a downstream", "a>available b>pending c>pending"),
        ("a=f b=!:+a c=o:b", "retry a downstream", "a>available b>pending c>pending"),
        ("a=c b=b:a", "retry a downstream", "a>available"),
        # Steps that lack a result stay so, though its parents have ended.
        ("a=f x=c b=b:x c=d:a", "retry a blocked", "a>available c>pending"),
    ],
)
def test_without_a_cancel_request(graph: str, command: str, changes: str) -> None:
    assert run(graph, command) == changes


@pytest.mark.parametrize(
    ("graph", "command", "reopen", "changes"),
    [
        ("a=o b=o:a", "retry a blocked", True, "a>available b>pending"),
        ("a=o b=o:a", "retry a step", True, "a>available"),
        ("a=o b=!:a", "retry a blocked", True, "a>available"),
        ("a=f b=d:a", "retry a blocked", True, "a>available b>pending"),
        ("a=a b=p:a", "cancel a step", False, "a>cancelled b>cancelled"),
        ("z=e a=e b=p:+a,z c=p:+a", "cancel a step", False, "a>cancelled c>cancelled"),
    ],
)
def test_with_a_cancel_request(graph: str, command: str, reopen: bool, changes: str) -> None:
    assert run(graph, command, cancel=True, reopen=reopen) == changes


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize(
    ("graph", "changes"),
    [
        ("a=f b=o:a", "a>available b>pending"),
        # The other parent of a join was recovered before: it may run, has ended well, or not.
        ("z=a a=o b=o:a,z c=o:b", "a>available b>pending c>pending"),
        ("z=c a=o b=o:a,z", "a>available b>pending"),
        ("z=f a=o b=o:a,z c=o:b", "a>available"),
        # Or it has not been recovered yet.
        ("z=o a=o b=o:a,z c=o:b", "a>available"),
    ],
)
def test_what_a_closed_request_had_cancelled_comes_back(
    graph: str, changes: str, reopen: bool
) -> None:
    assert run(graph, "retry a blocked", reopen=reopen) == changes


def test_causes_are_those_of_the_command_and_of_the_request() -> None:
    for cancel, cause in ((False, "cancelled_by_dependency"), (True, "operator_cancelled")):
        steps = planned("a=a b=p:a")
        plan(steps, "a", RecoveryAction.CANCEL, RecoveryScope.STEP, cancel=cancel, reopen=False)
        assert [step.cause for step in steps] == ["operator_cancelled", cause]
    (step,) = planned("a=f")
    plan([step], "a", RecoveryAction.SKIP, RecoveryScope.STEP, cancel=False, reopen=False)
    assert step.cause == "operator_skipped"


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ("a=f b=d:a", "a"),
        ("a=c x=t b=d:a,x", "x"),
        ("a=f b=p:+a", None),
        ("a=c b=p:a", None),
        ("a=p b=p:a", None),
    ],
)
def test_the_parent_that_cancels_again(graph: str, found: str | None) -> None:
    steps = planned(graph)
    assert cancelling_parent(steps[-1], {step.name: step for step in steps}) == found


def run(graph: str, command: str, *, cancel: bool = False, reopen: bool = False) -> str:
    """``"a>available"`` for each change of ``"retry a blocked"``."""
    steps = planned(graph)
    before = {step.name: step.state for step in steps}
    action, target, scope = command.split()
    changes = plan(
        steps, target, RecoveryAction(action), RecoveryScope(scope), cancel=cancel, reopen=reopen
    )
    assert not any(step.held for step in steps)
    assert all(change.before == before[change.step] for change in changes)
    return " ".join(f"{change.step}>{change.after}" for change in changes)
