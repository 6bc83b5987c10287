"""A workflow's graph as a drawing: a line a step, in topological order, edges as lanes beside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from rwf.model.views import GraphView

MOST_LANES: Final = 24
"""A graph that takes more lanes is not drawn."""

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES: Final = {
    0: " ",
    _UP | _DOWN: "│",
    _LEFT | _RIGHT: "─",
    _UP | _RIGHT: "╰",
    _UP | _LEFT: "╯",
    _DOWN | _RIGHT: "╭",
    _DOWN | _LEFT: "╮",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _DOWN | _LEFT: "┤",
    _UP | _LEFT | _RIGHT: "┴",
    _DOWN | _LEFT | _RIGHT: "┬",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}

Lane = str | None
"""The step that a lane leads to; None for one that is free."""


def drawn(graph: GraphView, signs: Sequence[str]) -> Iterator[tuple[str, int | None]]:
    """The lines of the drawing, each with the number of the step that it shows, if any; a step is
    shown by its sign. Lanes that lead to one step are one from where they meet.

    Raises ValueError for a graph that takes too many lanes.
    """
    children: defaultdict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        children[edge.parent].append(edge.child)
    position = {step.name: number for number, step in enumerate(graph.steps)}
    lanes: list[Lane] = []
    for number, step in enumerate(graph.steps):
        at = lanes.index(step.name) if step.name in lanes else _take(lanes, 0, step.name)
        yield _nodes(lanes, at, signs[number]), number
        before = list(lanes)
        lanes[at] = None
        targets = {
            lanes.index(child) if child in lanes else _take(lanes, at, child)
            for child in sorted(set(children[step.name]), key=position.__getitem__)
        }
        if targets - {at}:
            yield _edges(before, lanes, at, targets), None
        while lanes and lanes[-1] is None:
            lanes.pop()


def _take(lanes: list[Lane], near: int, step: str) -> int:
    """The first free lane from there on, for a step."""
    for place in range(near, len(lanes)):
        if lanes[place] is None:
            lanes[place] = step
            return place
    if len(lanes) == MOST_LANES:
        raise ValueError("too many lanes")
    lanes.append(step)
    return len(lanes) - 1


def _nodes(lanes: Sequence[Lane], at: int, sign: str) -> str:
    lines = (
        sign if place == at else " " if lane is None else "│" for place, lane in enumerate(lanes)
    )
    return " ".join(lines)


def _edges(before: Sequence[Lane], after: Sequence[Lane], at: int, targets: set[int]) -> str:
    """The line between a step and those that follow it: what leaves its lane for others."""
    first, last = min(at, *targets), max(at, *targets)
    text = ""
    for place in range(max(len(before), len(after))):
        up = _UP if place < len(before) and before[place] is not None else 0
        down = _DOWN if place < len(after) and after[place] is not None else 0
        passes = up and down and place != at and place not in targets
        left = _LEFT if first < place <= last and not passes else 0
        right = _RIGHT if first <= place < last and not passes else 0
        text += _LINES[up | down | left | right]
        text += "─" if first <= place < last else " "
    return text.rstrip()
