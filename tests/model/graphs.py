"""Graphs to run histories on: named shapes as plain functions, and strategies that draw them.

Steps are named ``s0`` to ``sN`` and every edge leads from a lower number to a higher one; the order
in which the steps are added need not follow the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from rwf.model.states import EdgePolicy
from tests.model.plain import Definition

CANCEL = EdgePolicy.CANCEL.value
CONTINUE = EdgePolicy.CONTINUE.value
ON_FAILURE = EdgePolicy.ON_FAILURE.value
VALUES = st.sampled_from([None, "done", 0])
MOST_STEPS = 8

Pair = tuple[int, int]


def graph(
    size: int,
    pairs: Iterable[Pair] = (),
    *,
    policy: str = CANCEL,
    going_on: Iterable[Pair] = (),
    max_attempts: int | Sequence[int] = 3,
    order: Sequence[int] | None = None,
    name: str = "flow",
) -> Definition:
    """A graph of numbered steps; the edges in ``going_on`` are ``continue`` edges."""
    attempts = [max_attempts] * size if isinstance(max_attempts, int) else max_attempts
    exceptions = set(going_on)
    return {
        "name": name,
        "steps": [
            {"name": f"s{number}", "max_attempts": attempts[number]}
            for number in (range(size) if order is None else order)
        ],
        "edges": [
            {
                "parent": f"s{parent}",
                "child": f"s{child}",
                "policy": CONTINUE if (parent, child) in exceptions else policy,
            }
            for parent, child in pairs
        ],
    }


def chain_pairs(size: int) -> list[Pair]:
    """One step after the other."""
    return [(number, number + 1) for number in range(size - 1)]


def diamond_pairs() -> list[Pair]:
    """One step, two beside each other, one that joins them."""
    return [(0, 1), (0, 2), (1, 3), (2, 3)]


def fan_out_pairs(size: int) -> list[Pair]:
    """One parent of all others."""
    return [(0, number) for number in range(1, size)]


def fan_in_pairs(size: int) -> list[Pair]:
    """One child of all others."""
    return [(number, size - 1) for number in range(size - 1)]


def layer_pairs(widths: Sequence[int]) -> list[Pair]:
    """Layers; each step depends on all steps of the layer before."""
    pairs: list[Pair] = []
    start = 0
    for above, below in pairwise(widths):
        middle = start + above
        pairs += [
            (parent, child)
            for parent in range(start, middle)
            for child in range(middle, middle + below)
        ]
        start = middle
    return pairs


def chain(size: int, policy: str = CANCEL, max_attempts: int = 3) -> Definition:
    return graph(size, chain_pairs(size), policy=policy, max_attempts=max_attempts, name="chain")


def diamond(policy: str = CANCEL, max_attempts: int = 3) -> Definition:
    return graph(4, diamond_pairs(), policy=policy, max_attempts=max_attempts, name="diamond")


def fan_out(size: int, policy: str = CANCEL, max_attempts: int = 3) -> Definition:
    return graph(
        size, fan_out_pairs(size), policy=policy, max_attempts=max_attempts, name="fan_out"
    )


def fan_in(size: int, policy: str = CANCEL, max_attempts: int = 3) -> Definition:
    return graph(size, fan_in_pairs(size), policy=policy, max_attempts=max_attempts, name="fan_in")


def layered(widths: Sequence[int], policy: str = CANCEL, max_attempts: int = 3) -> Definition:
    pairs = layer_pairs(widths)
    return graph(sum(widths), pairs, policy=policy, max_attempts=max_attempts, name="layered")


@st.composite
def _skeletons(draw: st.DrawFn) -> tuple[str, int, list[Pair]]:
    """A shape: its name, its size, its edges."""
    shape = draw(
        st.sampled_from(["random", "random", "diamond", "chain", "fan_in", "fan_out", "layered"])
    )
    if shape == "diamond":
        return shape, 4, diamond_pairs()
    if shape == "layered":
        widths = draw(st.sampled_from([(1, 2, 2), (2, 2), (2, 3, 1), (2, 2, 2, 2), (3, 3)]))
        return shape, sum(widths), layer_pairs(widths)
    size = draw(st.integers(1, MOST_STEPS))
    if shape == "chain":
        return shape, size, chain_pairs(size)
    if shape == "fan_in":
        return shape, size, fan_in_pairs(size)
    if shape == "fan_out":
        return shape, size, fan_out_pairs(size)
    every = [(parent, child) for child in range(size) for parent in range(child)]
    chosen = draw(st.sets(st.sampled_from(every), max_size=12)) if every else set()
    return shape, size, sorted(chosen)


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Any graph of up to eight steps: shape, policies, attempts and order of adding; half of them
    use branching."""
    name, size, pairs = draw(_skeletons())
    going_on = [pair for pair in pairs if draw(st.booleans())]
    max_attempts = [draw(st.integers(1, 3)) for _ in range(size)]
    order = draw(st.one_of(st.just(range(size)), st.permutations(range(size))))
    made = graph(
        size, pairs, going_on=going_on, max_attempts=max_attempts, order=list(order), name=name
    )
    if draw(st.booleans()):
        _branch(draw, made)
    return made


def _branch(draw: Callable[[st.SearchStrategy[Any]], Any], made: Definition) -> None:
    """Has steps depend on failures or on results, and some run always."""
    seldom = st.sampled_from([False, False, False, True])
    for step in made["steps"]:
        edges = [edge for edge in made["edges"] if edge["child"] == step["name"]]
        if draw(seldom):
            step["always"] = True
            continue
        for edge in edges:
            if draw(seldom):
                edge["policy"] = ON_FAILURE
        if edges and draw(seldom):
            parent = draw(st.sampled_from([edge["parent"] for edge in edges]))
            step["when"] = parent, draw(VALUES)
