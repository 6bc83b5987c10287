"""A layered layout of a directed acyclic graph: columns from left to right, few crossings.

It is that of Sugiyama: layers by the longest path, dummy nodes where an edge passes a layer, orders
by the mean place of the neighbours, then coordinates. All loops are bounded: a graph of any shape
takes time in proportion to its nodes and edges.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_SWEEPS: Final = 6
_ROW_SWEEPS: Final = 16
# Dummy nodes cost as much as others; what has none is drawn as one curve over what it passes.
_DUMMIES: Final = 2_000
# The least distance between two neighbours of a column, of which a dummy takes less.
_NODE_GAP: Final = 1.0
_DUMMY_GAP: Final = 0.6
_GRID: Final = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """``places`` has each node's column and row, rows as fractions from 0; ``bends`` the rows in
    which an edge passes the columns between its ends."""

    places: Sequence[tuple[int, float]]
    bends: Mapping[tuple[int, int], Sequence[float]]
    columns: int
    rows: float


def layered(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Lays out the nodes 0 to ``count - 1``; each edge leads from a lower number to a higher."""
    column_of = _columns(count, edges)
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    chains: dict[tuple[int, int], list[int]] = {}
    dummies = 0
    for first, last in edges:
        chain = [first]
        span = column_of[last] - column_of[first] - 1
        if dummies + span <= _DUMMIES:
            dummies += span
            for step in range(span):
                chain.append(len(column_of))
                column_of.append(column_of[first] + step + 1)
                before.append([])
                after.append([])
        chain.append(last)
        chains[first, last] = chain
        for one, other in pairwise(chain):
            after[one].append(other)
            before[other].append(one)
    columns: list[list[int]] = [[] for _ in range(max(column_of, default=-1) + 1)]
    for node, column in enumerate(column_of):
        columns[column].append(node)
    columns = _ordered(columns, before, after)
    rows = _rows(columns, before, after, count)
    bends = {edge: [rows[node] for node in chain[1:-1]] for edge, chain in chains.items()}
    places = [(column_of[node], rows[node]) for node in range(count)]
    return Layout(places, bends, len(columns), max(rows, default=0.0))


def _columns(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Each node's column: one after the last of its parents."""
    found = [0] * count
    for first, last in sorted(edges):
        found[last] = max(found[last], found[first] + 1)
    return found


def _ordered(
    columns: list[list[int]], before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]
) -> list[list[int]]:
    """The columns with their nodes in the best order found."""
    best, least = columns, _crossings(columns, after)
    for sweep in range(_SWEEPS):
        if not least:
            break
        columns = [list(column) for column in columns]
        forward = sweep % 2 == 0
        places = _places(columns)
        for column in columns if forward else reversed(columns):
            near = before if forward else after
            centre = {
                node: sum(places[other] for other in near[node]) / len(near[node])
                if near[node]
                else places[node]
                for node in column
            }
            column.sort(key=centre.__getitem__)
            places.update((node, float(place)) for place, node in enumerate(column))
        if (crossings := _crossings(columns, after)) < least:
            best, least = columns, crossings
    return best


def _places(columns: Sequence[Sequence[int]]) -> dict[int, float]:
    return {node: float(place) for column in columns for place, node in enumerate(column)}


def _crossings(columns: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> int:
    """How many pairs of edges between neighbouring columns cross."""
    places = _places(columns)
    total = 0
    for column in columns:
        ends: list[float] = []
        for node in column:
            some = [places[other] for other in after[node]]
            total += sum(len(ends) - bisect_left(ends, end + 0.5) for end in some)
            for end in some:
                insort(ends, end)
    return total


def _rows(
    columns: Sequence[Sequence[int]],
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    count: int,
) -> list[float]:
    """Each node's row: near its neighbours, as far as those of its column leave room."""
    rows = [0.0] * len(before)
    for column in columns:
        for place, node in enumerate(column):
            rows[node] = float(place)
    for sweep in range(_ROW_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = []
            for node in column:
                near = [rows[other] for other in (*before[node], *after[node])] or [rows[node]]
                wanted.append(sum(near) / len(near))
            for node, row in zip(column, _apart(column, wanted, count), strict=True):
                rows[node] = row
    least = min(rows, default=0.0)
    # Rounded, so that what is nearly straight is straight; gaps of whole rows stay as they are.
    return [round((row - least) * _GRID) / _GRID for row in rows]


def _apart(column: Sequence[int], wanted: Sequence[float], count: int) -> list[float]:
    """The rows nearest to those wanted, in the least squares, that keep the order and the gaps.

    Less the gaps above each, that is a regression to a row which never falls, which pooling finds:
    neighbours that would overlap share the mean of their wishes.
    """
    offsets, offset = [], 0.0
    for place, node in enumerate(column):
        if place:
            both = node < count and column[place - 1] < count
            offset += _NODE_GAP if both else _DUMMY_GAP
        offsets.append(offset)
    pools: list[tuple[float, int]] = []  # the sum of the wishes, and of how many
    for wish, above in zip(wanted, offsets, strict=True):
        total, size = wish - above, 1
        while pools and pools[-1][0] * size >= total * pools[-1][1]:
            more, members = pools.pop()
            total, size = total + more, size + members
        pools.append((total, size))
    means = [total / size for total, size in pools for _ in range(size)]
    return [mean + above for mean, above in zip(means, offsets, strict=True)]
