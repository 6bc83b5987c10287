"""Graphs of numbered nodes, small enough to be judged by eye."""

from __future__ import annotations

import pytest

from rwf.model import dag


@pytest.mark.parametrize(
    ("parents", "order"),
    [
        ([], []),
        ([[], [0], [1]], [0, 1, 2]),
        ([[1], [2], []], [2, 1, 0]),
        ([[3], [], [], []], [1, 2, 3, 0]),
        ([[1, 2], [], [1], [0]], [1, 2, 0, 3]),
        # The lowest of the nodes that could come next: 0 once 3 is placed, though 4 could come.
        ([[3], [], [], [1], []], [1, 2, 3, 0, 4]),
        ([[0]], []),
        ([[], [2], [1], [0]], [0, 3]),
        ([[], [2], [1], [2]], [0]),
    ],
)
def test_nodes_come_after_their_parents_the_lowest_first(
    parents: list[list[int]], order: list[int]
) -> None:
    assert dag.topological_order(parents) == order


@pytest.mark.parametrize(
    ("parents", "cycle"),
    [
        ([[0]], [0]),
        ([[1], [0]], [0, 1]),
        ([[2], [0], [1]], [0, 1, 2]),
        ([[1], [2], [0]], [0, 2, 1]),
        # 1 and 2 are on the cycle, 0 is behind it, 3 before it.
        ([[1], [2], [1, 3], []], [1, 2]),
    ],
)
def test_a_cycle_begins_with_its_lowest_and_follows_the_edges(
    parents: list[list[int]], cycle: list[int]
) -> None:
    assert dag.find_cycle(parents, dag.topological_order(parents)) == cycle


@pytest.mark.parametrize("width", [1, 2, 4096])
def test_the_pairs_of_which_one_is_above_the_other(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dag, "_SWEEP_WIDTH", width)
    # 4 -> 0 -> 1 -> 2, 0 -> 3, 5 alone.
    parents = [[4], [0], [1], [0], [], []]
    order = dag.topological_order(parents)
    pairs = [(above, below) for above in range(6) for below in range(6)]
    assert dag.connected(parents, order, pairs) == {
        *((4, below) for below in (0, 1, 2, 3)),
        *((0, below) for below in (1, 2, 3)),
        (1, 2),
    }
    assert dag.connected(parents, order, []) == set()
