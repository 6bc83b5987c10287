"""The picture of a graph: which steps are folded, which are left out, and which never are."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from rwf.console.graph import DRAWN, Picture, picture
from rwf.model.states import EdgePolicy, OperatorStatus, StepState, WorkflowState
from rwf.model.views import Edge, GraphView, StepView, WorkflowView

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def graph(text: str, states: dict[str, str] | None = None) -> GraphView:
    """``graph("a b:a c:a,+b")`` as ``tests.support.flows.flow`` reads it."""
    steps, edges = [], []
    for position, word in enumerate(text.split()):
        name, _, parents = word.partition(":")
        state = StepState((states or {}).get(name, "pending"))
        steps.append(
            StepView(
                name=name, worker=name.rstrip("0123456789"), queue="q", priority=0, state=state,
                attempt=0, max_attempts=1, position=position, dependency_count=0, input=None,
                terminal_cause=None, context=None, lease_expires_at=None, leased_by=None,
                retry_at=None, awaiting=None, cancel_requested_at=None, started_at=None,
                finished_at=None, last_transition_at=NOW,
            )
        )  # fmt: skip
        for parent in filter(None, parents.split(",")):
            policy = EdgePolicy.CONTINUE if parent[0] == "+" else EdgePolicy.CANCEL
            edges.append(Edge(parent=parent.lstrip("+"), child=name, policy=policy))
    workflow = WorkflowView(
        id="0-a", name="w", state=WorkflowState.RUNNING, semantics_version=2, definition_version=1,
        context=None, step_count=len(steps), runnable_step_count=0, completed_step_count=0,
        cancelled_step_count=0, failed_step_count=0, terminal_cause=None, cancel_requested_at=None,
        cancel_reason=None, inserted_at=NOW, started_at=None, finished_at=None,
        last_transition_at=NOW,
    )  # fmt: skip
    return GraphView(workflow=workflow, steps=tuple(steps), edges=tuple(edges))


def drawn(
    view: GraphView,
    roots: tuple[str, ...] = (),
    focus: str | None = None,
    unfold: str | None = None,
    near: bool = False,
) -> Picture:
    statuses = {
        step.name: OperatorStatus.NEEDS_REVIEW
        if step.state is StepState.FAILED
        else OperatorStatus.WAITING
        for step in view.steps
    }
    return picture(view, statuses, roots, focus=focus, unfold=unfold, near=near)


def nodes(found: Picture) -> dict[str, int]:
    return {node.name: node.count for node in found.nodes}


def lines(found: Picture) -> set[tuple[str, str, str]]:
    return {(line.parent, line.child, line.policy.value) for line in found.lines}


FAN = (
    "a "
    + " ".join(f"b{n}:a c{n}:b{n}" for n in range(20))
    + " z:"
    + ",".join(f"c{n}" for n in range(20))
)


def test_a_small_graph_is_drawn_as_it_is() -> None:
    found = drawn(graph("a b:a c:a,+b"))
    assert nodes(found) == {"a": 1, "b": 1, "c": 1}
    assert lines(found) == {("a", "b", "cancel"), ("a", "c", "cancel"), ("b", "c", "continue")}
    assert found.left_out == 0


def test_branches_of_several_steps_are_folded_step_by_step() -> None:
    found = drawn(graph(FAN))
    assert nodes(found) == {"a": 1, "b0": 20, "c0": 20, "z": 1}
    assert lines(found) == {
        ("a", "b0", "cancel"), ("b0", "c0", "cancel"), ("c0", "z", "cancel"),
    }  # fmt: skip


def test_a_root_cause_stands_beside_its_fan() -> None:
    found = drawn(graph(FAN, {"c7": "failed", "c9": "completed"}), roots=("c7",))
    assert nodes(found) == {"a": 1, "b0": 20, "c0": 19, "c7": 1, "z": 1}
    [root] = [node for node in found.nodes if node.root]
    assert root.name == "c7"
    [fan] = [node for node in found.nodes if node.name == "c0"]
    assert fan.states == {"pending": 18, "completed": 1}


def test_a_fan_with_very_many_root_causes_shows_some_of_them() -> None:
    failed = tuple(f"c{n}" for n in range(12))
    found = drawn(graph(FAN, dict.fromkeys(failed, "failed")), roots=failed)
    assert sum(node.root for node in found.nodes) == 9
    [fan] = [node for node in found.nodes if node.name == "c8"]
    assert (fan.count, fan.root, fan.status) == (12, True, OperatorStatus.NEEDS_REVIEW)


def test_a_fan_that_is_unfolded_shows_its_steps_up_to_a_number() -> None:
    found = drawn(graph(FAN), unfold="c3")
    assert sum(name.startswith("c") for name in nodes(found)) == 20
    wide = graph("a " + " ".join(f"b{n}:a" for n in range(1_000)))
    assert nodes(drawn(wide, unfold="b0"))["b200"] == 800
    assert len(nodes(drawn(wide, unfold="b0"))) == 202


def test_steps_over_edges_of_other_policies_are_not_folded_together() -> None:
    text = "a " + " ".join(f"b{n}:{'+' if n % 2 else ''}a" for n in range(20))
    assert nodes(drawn(graph(text))) == {"a": 1, "b0": 10, "b1": 10}


def test_steps_without_edges_are_folded_too() -> None:
    assert nodes(drawn(graph(" ".join(f"a{n}" for n in range(30))))) == {"a0": 30}


def test_a_neighbourhood_says_what_it_leaves_out() -> None:
    chain = "s0 " + " ".join(f"t{n}s:{'s0' if n == 0 else f't{n - 1}s'}" for n in range(300))
    found = drawn(graph(chain), focus="t150s")
    assert len(found.nodes) == 60
    assert found.left_out == 241
    assert sum(node.hidden for node in found.nodes) == 2
    [focus] = [node for node in found.nodes if node.focus]
    assert focus.name == "t150s"
    assert len(drawn(graph("a b:a c:b"), focus="b", near=True).nodes) == 3


def test_without_a_root_cause_the_neighbourhood_is_that_of_the_first_step() -> None:
    chain = "s0 " + " ".join(f"t{n}s:{'s0' if n == 0 else f't{n - 1}s'}" for n in range(300))
    assert drawn(graph(chain)).nodes[0].name == "s0"


@pytest.mark.parametrize("shape", ["wide", "random", "long"])
def test_large_graphs_are_drawn_within_bounds(shape: str) -> None:
    if shape == "wide":  # each step is unlike all others, as the workers differ
        words = ["a", *(f"w{n}x:a" for n in range(4_999))]
    elif shape == "long":
        words = ["w0x", *(f"w{n}x:w{n - 1}x" for n in range(1, 5_000))]
    else:
        words = ["w0x", *(f"w{n}x:w{n // 2}x,w{n // 3}x" for n in range(7, 5_000))]
        words[1:1] = [f"w{n}x:w0x" for n in range(1, 7)]
    view = graph(" ".join(words))
    began = time.process_time()
    found = drawn(view, roots=(view.steps[0].name,))
    assert time.process_time() - began < 5
    assert len(found.nodes) <= DRAWN
    assert sum(node.count for node in found.nodes) + found.left_out == len(view.steps)
