"""Directed graphs of numbered nodes: topological order, cycles, reachability. All iterative.

A graph is given as ``parents``: for each node, from 0, the nodes that have an edge to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Final

Parents = Sequence[Collection[int]]

# Sources that one sweep of :func:`connected` follows, one bit each. Wider masks mean fewer sweeps;
# a sweep holds one mask for each node, 50 MB of them on 100,000 nodes in the worst case.
_SWEEP_WIDTH: Final = 4096


def topological_order(parents: Parents) -> list[int]:
    """The nodes, each after its parents; among those that could come next, the lowest first.

    Nodes on a cycle, and those behind one, are left out: the order is then shorter than the graph.
    """
    if all(max(above, default=-1) < node for node, above in enumerate(parents)):
        return list(range(len(parents)))
    children: list[list[int]] = [[] for _ in parents]
    for node, above in enumerate(parents):
        for parent in above:
            children[parent].append(node)
    missing = [len(above) for above in parents]
    # In ascending order, which is a heap.
    ready = [node for node, count in enumerate(missing) if count == 0]
    order = []
    while ready:
        node = heappop(ready)
        order.append(node)
        for child in children[node]:
            missing[child] -= 1
            if missing[child] == 0:
                heappush(ready, child)
    return order


def find_cycle(parents: Parents, order: Iterable[int]) -> list[int]:
    """One cycle of a graph whose topological ``order`` is not complete.

    Each node has an edge to the next, and the last to the first, which is the cycle's lowest.
    """
    ordered = set(order)
    node = next(node for node in range(len(parents)) if node not in ordered)
    # Each node that is left has a parent that is left too: walking up must come back.
    walked: dict[int, None] = {}
    while node not in walked:
        walked[node] = None
        node = min(parent for parent in parents[node] if parent not in ordered)
    path = list(walked)
    cycle = path[path.index(node) :][::-1]
    lowest = cycle.index(min(cycle))
    return cycle[lowest:] + cycle[:lowest]


def connected(
    parents: Parents, order: Sequence[int], pairs: Iterable[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Those ``pairs`` of (source, target) of which the source is an ancestor of the target.

    ``order`` is the graph's complete topological order. Sources are followed downwards thousands
    at a time, as bits of a number for each node, between the first of them and the last target: a
    search for each pair would take quadratic time on long chains.
    """
    rank = [0] * len(order)
    for place, node in enumerate(order):
        rank[node] = place
    targets: defaultdict[int, list[int]] = defaultdict(list)
    for source, target in pairs:
        if rank[source] < rank[target]:
            targets[rank[source]].append(rank[target])
    ranked = [[rank[parent] for parent in parents[node]] for node in order] if targets else []
    found = set()
    sources = iter(sorted(targets))
    while block := list(islice(sources, _SWEEP_WIDTH)):
        bits = {source: 1 << number for number, source in enumerate(block)}
        last = max(max(targets[source]) for source in block)
        masks = _sweep(ranked, bits, block[0], last)
        for source in block:
            for target in targets[source]:
                if masks[target] & bits[source]:
                    found.add((order[source], order[target]))
    return found


def _sweep(ranked: Parents, bits: dict[int, int], first: int, last: int) -> list[int]:
    """For each node up to ``last``, the bits of itself and of its ancestors from ``first`` on."""
    masks = [0] * (last + 1)
    for place in range(first, last + 1):
        mask = bits.get(place, 0)
        for parent in ranked[place]:
            above = masks[parent]
            # Sharing a number where nothing is added keeps most of them from being copied.
            if above and above != mask:
                mask = mask | above if mask else above
        masks[place] = mask
    return masks
