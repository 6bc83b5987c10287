"""Shared by the tests of workflows and of graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from rwf.errors import WorkflowInvalid
from rwf.model.builder import Graph, GraphStep, Workflow, result


def refused(act: Callable[[], object]) -> WorkflowInvalid:
    with pytest.raises(WorkflowInvalid) as caught:
        act()
    assert len(str(caught.value)) < 600
    str(caught.value).encode()
    return caught.value


def steps(*names: str) -> Workflow:
    return Workflow("wf").add_many({"name": name, "worker": "w"} for name in names)


def order(graph: Graph) -> list[str]:
    return [step.name for step in graph.steps]


def node(graph: Graph, name: str) -> GraphStep:
    return next(step for step in graph.steps if step.name == name)


def edges(graph: Graph) -> set[tuple[str, str, str]]:
    found = {(p, step.name, str(policy)) for step in graph.steps for p, policy in step.parents}
    mirrored = {(step.name, c, str(policy)) for step in graph.steps for c, policy in step.children}
    assert found == mirrored
    return found


@st.composite
def definitions(draw: st.DrawFn) -> Workflow:
    """Acyclic workflows whose steps are added in any order."""
    count = draw(st.integers(1, 9))
    names = [f"s{number}" for number in range(count)]
    wf = Workflow("wf", context=draw(st.none() | st.just({"k": [1]})))
    for number in draw(st.permutations(range(count))):
        earlier = st.lists(st.sampled_from(names[:number]), max_size=3) if number else st.just([])
        references = [result(name, draw(st.none() | st.just("a.b"))) for name in draw(earlier)]
        wf.add(
            names[number],
            worker="w",
            input=draw(st.sampled_from([None, {"b": 1, "refs": references}, references])),
            deps=draw(earlier),
            priority=draw(st.sampled_from([0, 3])),
            backoff=draw(st.sampled_from([None, 5, {"jitter": "none"}])),
            timeout=draw(st.sampled_from([None, 2])),
        )
    policies: dict[tuple[str, str], Any] = {}
    for child in range(1, count):
        parent = draw(st.integers(0, child - 1))
        policies[names[parent], names[child]] = draw(st.sampled_from(["cancel", "continue"]))
    by_deps = {(dep, step.name) for step in wf.steps for dep in step.deps}
    for (above, below), policy in policies.items():
        wf.connect(above, below, "cancel" if (above, below) in by_deps else policy)
    return wf
