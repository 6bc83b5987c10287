"""The layered layout: columns after columns, no node on another, and bounded work on any graph."""

from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rwf.console.layout import Layout, layered

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Edges]:
    count = draw(st.integers(1, 30))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    drawn = draw(st.lists(pairs.filter(lambda pair: pair[0] < pair[1]), unique=True, max_size=90))
    return count, drawn


def crossings(layout: Layout, edges: Edges) -> int:
    """Pairs of edges that cross, in a graph whose edges pass no column."""
    rows = [(layout.places[a][0], layout.places[a][1], layout.places[b][1]) for a, b in edges]
    return sum(
        one[0] == other[0] and (one[1] - other[1]) * (one[2] - other[2]) < 0
        for place, one in enumerate(rows)
        for other in rows[place + 1 :]
    )


@given(graphs())
def test_edges_lead_to_the_right_and_nodes_keep_their_distance(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    layout = layered(count, edges)
    for first, last in edges:
        span = layout.places[last][0] - layout.places[first][0]
        assert span >= 1
        assert len(layout.bends[first, last]) == span - 1
    columns: dict[int, list[float]] = {}
    for column, row in layout.places:
        columns.setdefault(column, []).append(row)
        assert 0 <= row <= layout.rows
    assert sorted(columns) == list(range(layout.columns))
    for rows in columns.values():
        for one, other in pairwise(sorted(rows)):
            assert other - one >= 0.999


def test_a_chain_is_a_line() -> None:
    layout = layered(5, [(n, n + 1) for n in range(4)])
    assert list(layout.places) == [(n, 0.0) for n in range(5)]


def test_a_diamond_is_symmetric() -> None:
    layout = layered(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    assert [row for _, row in layout.places] == [0.5, 0.0, 1.0, 0.5]


def test_crossings_that_an_order_avoids_are_avoided() -> None:
    edges = [(0, 7), (1, 6), (2, 5), (3, 4), (4, 11), (5, 10), (6, 9), (7, 8)]
    assert crossings(layered(12, edges), edges) == 0


def test_nothing_is_laid_out_in_no_room() -> None:
    assert layered(0, []) == Layout([], {}, 0, 0)


def test_the_densest_graph_that_is_drawn_takes_little_time() -> None:
    edges = [(one, other) for other in range(500) for one in range(max(0, other - 30), other)]
    began = time.process_time()
    layered(500, edges)
    assert time.process_time() - began < 5
