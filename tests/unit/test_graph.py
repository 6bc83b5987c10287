"""Compiling workflows: faults that only the whole graph shows, its edges, order and digest."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwf.model import dag
from rwf.model.builder import Workflow, result
from rwf.model.retry import Backoff
from rwf.model.states import EdgePolicy
from tests.unit.building import definitions, edges, node, order, refused, steps

CANCEL = EdgePolicy.CANCEL
DIGEST = "d1c88e1a6860109629e64270ef4c887bd2892fd3c459016dbabf176e4129233e"


def test_no_steps() -> None:
    assert refused(Workflow("wf").validate).code == "no_steps"


def test_workflow_too_large() -> None:
    steps("a", "b").validate(max_steps=2)
    error = refused(lambda: steps("a", "b").validate(max_steps=1))
    assert error.code == "workflow_too_large"
    assert error.details == {"steps": 2, "limit": 1}


def test_payloads_are_measured_against_the_client_s_limit() -> None:
    text = "x" * 98
    for wf, path in [
        (Workflow("wf", context=text).add("a", worker="w"), "$.context"),
        (Workflow("wf").add("a", worker="w", input=text), '$.steps["a"].input'),
        (Workflow("wf").add("a", worker="w", context=text), '$.steps["a"].context'),
    ]:
        wf.validate(max_payload=100)
        error = refused(lambda wf=wf: wf.validate(max_payload=99))  # type: ignore[misc]
        assert error.code == "payload_too_large"
        assert error.details == {"path": path, "bytes": 100, "limit": 99}


def test_the_default_limit_of_a_payload() -> None:
    Workflow("wf").add("a", worker="w", input="x" * (262_144 - 2)).validate()
    error = refused(Workflow("wf").add("a", worker="w", input="x" * (262_144 - 1)).validate)
    assert error.code == "payload_too_large"


def test_missing_dependency() -> None:
    wf = Workflow("wf").add("a", worker="w", deps=["b"])
    error = refused(wf.validate)
    assert error.code == "missing_dependency"
    assert error.details == {"step": "a", "dependency": "b"}
    wf.add("b", worker="w").validate()
    error = refused(steps("a").connect("b", "a").validate)
    assert (error.code, error.details) == (
        "missing_dependency",
        {"step": "a", "dependency": "b"},
    )
    assert refused(steps("a").connect("a", "b").validate).code == "missing_dependency"


def test_duplicate_edge() -> None:
    wf = steps("a", "b").connect("a", "b").connect("a", "b", "continue")
    error = refused(wf.validate)
    assert error.code == "duplicate_edge"
    assert error.details == {"parent": "a", "child": "b"}
    wf = steps("a").add("b", worker="w", deps=["a"]).connect("a", "b", "continue")
    assert refused(wf.validate).code == "duplicate_edge"


def test_the_same_edge_twice_is_harmless() -> None:
    wf = steps("a").add("b", worker="w", deps=["a", "a"]).connect("a", "b").connect("a", "b")
    assert edges(wf.compile()) == {("a", "b", "cancel")}
    wf = steps("a", "b").connect("a", "b", "continue").connect("a", "b", "continue")
    assert edges(wf.compile()) == {("a", "b", "continue")}


def test_cycle_detected() -> None:
    wf = steps("x", "a", "b", "c", "behind")
    wf.connect("x", "a").connect("a", "b").connect("b", "c", "continue").connect("c", "a")
    wf.connect("c", "behind")
    error = refused(wf.validate)
    assert error.code == "cycle_detected"
    assert error.details == {"cycle": ["a", "b", "c"]}
    assert error.message == "a -> b -> c -> a"


@pytest.mark.parametrize(("length", "last"), [(10, "s9 -> s0"), (11, "s9 -> ... (1 more)")])
def test_a_message_names_ten_steps_of_a_cycle(length: int, last: str) -> None:
    names = [f"s{number}" for number in range(length)]
    wf = steps(*names)
    for parent, child in zip(names, names[1:] + names[:1], strict=True):
        wf.connect(parent, child)
    assert refused(wf.validate).message == " -> ".join([*names[:9], last])


def test_a_long_cycle_is_whole_in_the_details_and_short_in_the_message() -> None:
    names = [f"s{number}" for number in range(50_000)]
    wf = steps(*names)
    for parent, child in zip(names, names[1:] + names[:1], strict=True):
        wf.connect(parent, child)
    error = refused(wf.validate)
    assert error.details["cycle"] == names
    assert len(error.message) < 200


def test_unknown_result_step() -> None:
    wf = Workflow("wf").add("a", worker="w", input={"x": [result("b", "c")]})
    error = refused(wf.validate)
    assert error.code == "unknown_result_step"
    assert error.details == {"step": "a", "reference": "b"}


# --- Edges that references add ------------------------------------------------------------------


def test_a_reference_adds_an_edge() -> None:
    wf = steps("a").add("b", worker="w", input=result("a"))
    assert edges(wf.compile()) == {("a", "b", "cancel")}
    assert order(
        Workflow("w").add("b", worker="w", input=result("a")).add("a", worker="w").compile()
    ) == ["a", "b"]


def test_an_explicit_edge_wins() -> None:
    wf = steps("a").add("b", worker="w", input=result("a")).connect("a", "b", "continue")
    assert edges(wf.compile()) == {("a", "b", "continue")}


def test_a_reference_to_an_ancestor_adds_none() -> None:
    wf = steps("a", "b").add("c", worker="w", input=result("a"))
    wf.connect("a", "b", "continue").connect("b", "c", "continue")
    assert edges(wf.compile()) == {("a", "b", "continue"), ("b", "c", "continue")}


def test_edges_of_other_references_make_no_ancestors() -> None:
    wf = steps("a").add("b", worker="w", input=result("a"))
    wf.add("c", worker="w", input=[result("b"), result("a")])
    assert edges(wf.compile()) == {
        ("a", "b", "cancel"),
        ("b", "c", "cancel"),
        ("a", "c", "cancel"),
    }


def test_references_can_close_a_cycle() -> None:
    wf = Workflow("wf").add("a", worker="w", input=result("b")).add("b", worker="w", deps=["a"])
    assert refused(wf.validate).details == {"cycle": ["a", "b"]}
    wf = Workflow("wf").add("a", worker="w", input=result("b"))
    wf.add("b", worker="w", input=result("a"))
    assert refused(wf.validate).details == {"cycle": ["a", "b"]}


# --- Order and digest ---------------------------------------------------------------------------


def test_order_is_the_definition_s_among_steps_that_could_come_next() -> None:
    wf = steps("e", "d", "c", "b", "a")
    assert order(wf.compile()) == ["e", "d", "c", "b", "a"]
    wf.connect("a", "d")
    assert order(wf.compile()) == ["e", "c", "b", "a", "d"]
    assert [step.position for step in wf.compile().steps] == [0, 1, 2, 3, 4]


def test_parents_and_children_stand_by_position() -> None:
    wf = steps("join", "b", "a", "root")
    for name in ("a", "b"):
        wf.connect(name, "join").connect("root", name)
    graph = wf.compile()
    assert order(graph) == ["root", "b", "a", "join"]
    assert node(graph, "join").parents == (("b", CANCEL), ("a", CANCEL))
    assert node(graph, "root").children == (("b", CANCEL), ("a", CANCEL))


def variant(**changes: Any) -> Workflow:
    fields: dict[str, Any] = {
        "worker": "w",
        "input": {"x": 1, "y": {"p": 1, "q": 2}},
        "deps": ["a"],
    }
    return steps("a", "c").add("b", **(fields | changes))


def test_equal_definitions_have_equal_digests() -> None:
    digest = variant().compile().digest
    assert len(digest) == 64
    same = [
        variant(input={"y": {"q": 2, "p": 1}, "x": 1}),
        variant(deps=("a", "a")),
        variant(deps=()).connect("a", "b"),
        variant(backoff=Backoff()),
        variant(backoff={}),
        variant(queue="default", priority=0, max_attempts=5),
    ]
    assert {wf.compile().digest for wf in same} == {digest}
    one = steps("a", "b", "c").connect("a", "c").connect("b", "c")
    other = steps("a", "b", "c").connect("b", "c").connect("a", "c")
    assert one.compile().digest == other.compile().digest
    implied = steps("a").add("b", worker="w", input=result("a"))
    explicit = steps("a").add("b", worker="w", input=result("a"), deps=["a"])
    assert implied.compile().digest == explicit.compile().digest


def test_a_digest_is_the_same_in_every_release() -> None:
    """Otherwise a key of an earlier release would refuse the definition that it was used with."""
    wf = variant(backoff=7, timeout=2, context=[1]).connect("c", "b", "continue")
    assert wf.compile().digest == DIGEST


def test_different_definitions_have_different_digests() -> None:
    different = [
        variant(),
        variant(worker="v"),
        variant(queue="q"),
        variant(priority=1),
        variant(max_attempts=4),
        variant(backoff=1),
        variant(timeout=1),
        variant(context={}),
        variant(input={"x": 1, "y": {"p": 1}}),
        variant(input={"x": 1.0, "y": {"p": 1, "q": 2}}),
        variant(input={"x": True, "y": {"p": 1, "q": 2}}),
        variant(input=None),
        variant(input=[]),
        variant(input={}),
        variant(deps=[]),
        variant(deps=["c"]),
        variant(deps=["a", "c"]),
        variant(deps=[]).connect("a", "b", "continue"),
        variant().add("d", worker="w"),
        Workflow("other").add_many(variant().steps),
        Workflow("wf", context=0).add_many(variant().steps),
        Workflow("wf", definition_version=2).add_many(variant().steps),
    ]
    digests = [wf.compile().digest for wf in different]
    assert len(set(digests)) == len(digests)


@given(definitions())
def test_order_is_topological_and_stable(wf: Workflow) -> None:
    graph = wf.compile()
    place = {step.name: step.position for step in graph.steps}
    assert list(place.values()) == list(range(len(wf.steps)))
    assert sorted(place) == sorted(step.name for step in wf.steps)
    assert all(place[parent] < place[child] for parent, child, _ in edges(graph))
    defined = {step.name: number for number, step in enumerate(wf.steps)}
    done: set[str] = set()
    for step in graph.steps:
        ready = [
            other.name
            for other in graph.steps
            if other.name not in done and all(parent in done for parent, _ in other.parents)
        ]
        assert step.name == min(ready, key=defined.__getitem__)
        done.add(step.name)


def ancestors(pairs: set[tuple[str, str]], name: str) -> set[str]:
    found: set[str] = set()
    grown = {name}
    while grown:
        grown = {parent for parent, child in pairs if child in grown} - found
        found |= grown
    return found


@given(definitions())
def test_edges_are_the_explicit_ones_and_those_to_steps_that_are_no_ancestors(wf: Workflow) -> None:
    form = wf.to_dict()
    expected = {(dep, s["name"]): "cancel" for s in form["steps"] for dep in s.get("deps", [])}
    for edge in form.get("edges", []):
        expected[edge["parent"], edge["child"]] = edge.get("policy", "cancel")
    explicit = set(expected)
    for step in wf.steps:
        for reference in step.references:
            if reference not in ancestors(explicit, step.name):
                expected[reference, step.name] = "cancel"
    assert edges(wf.compile()) == {(*pair, policy) for pair, policy in expected.items()}


def reordered(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, reordered(item, rng)) for key, item in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [reordered(item, rng) for item in value] if isinstance(value, list) else value


@given(definitions(), st.randoms(use_true_random=False))
def test_digest_ignores_the_order_of_keys_and_edges(wf: Workflow, rng: random.Random) -> None:
    form = reordered(wf.to_dict(), rng)
    rng.shuffle(form.get("edges", []))
    for step in form["steps"]:
        rng.shuffle(step.get("deps", []))
    assert Workflow.from_dict(form).compile().digest == wf.compile().digest


@given(definitions(), st.data())
def test_which_edges_there_are_does_not_depend_on_the_order_of_steps(
    wf: Workflow, data: st.DataObject
) -> None:
    form = wf.to_dict()
    form["steps"] = data.draw(st.permutations(form["steps"]))
    assert edges(Workflow.from_dict(form).compile()) == edges(wf.compile())


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=16))
def test_a_found_cycle_is_one(pairs: list[tuple[int, int]]) -> None:
    parents = [{a for a, b in pairs if b == node and a != b} for node in range(8)]
    found = dag.topological_order(parents)
    if len(found) == 8:
        return
    cycle = dag.find_cycle(parents, found)
    assert len(set(cycle)) == len(cycle) >= 2
    assert cycle[0] == min(cycle)
    following = cycle[1:] + cycle[:1]
    assert all(node in parents[child] for node, child in zip(cycle, following, strict=True))


def test_ancestors_are_found_over_more_sources_than_one_sweep_follows() -> None:
    # Two interleaved chains: even steps descend from even ones only.
    count = 10_000
    parents = [[node - 2] if node > 1 else [] for node in range(count)]
    pairs = [(node, count - 1) for node in range(count - 1)] + [(5, 3), (3, 3)]
    found = dag.connected(parents, range(count), pairs)
    assert found == {(node, count - 1) for node in range(1, count - 1, 2)}


# --- Size ---------------------------------------------------------------------------------------


def test_large_graphs_do_not_take_quadratic_time() -> None:
    """A few seconds of processor time; a search for each reference would take minutes."""
    names = [f"s{number}" for number in range(40_000)]
    started = time.process_time()
    chain = Workflow("chain").add(names[0], worker="w")
    for number in range(1, len(names)):
        refs = [result(names[max(number - 2, 0)]), result(names[0])]
        chain.add(names[number], worker="w", input=refs, deps=[names[number - 1]])
    every = [result(name) for name in names]
    chain.add("report", worker="w", input=every, deps=[names[-1]])
    graph = chain.compile(max_payload=8_000_000)
    assert node(graph, "report").parents == ((names[-1], CANCEL),)
    assert sum(len(step.parents) for step in graph.steps) == len(names)
    join = steps(*names).add("join", worker="w", input=every)
    assert len(node(join.compile(max_payload=8_000_000), "join").parents) == len(names)
    assert time.process_time() - started < 30
