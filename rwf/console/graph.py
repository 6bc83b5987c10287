"""The picture of a workflow's graph: which steps are drawn, which are folded, and where.

Steps that stand alike, such as the branches of a wide fan, are folded into one node. What is still
too much is cut down to the neighbourhood of the steps that matter. The work is bounded by the
number of steps and edges, and what is drawn by ``DRAWN``.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rwf.console.layout import layered
from rwf.model.states import EdgePolicy, OperatorStatus, StepState
from rwf.model.views import Edge, GraphView, StepView

DRAWN: Final = 500
"""Nodes that are drawn at most; of a larger graph, a neighbourhood."""
_NEAR: Final = 60
"""Nodes of a neighbourhood."""
_LONGEST: Final = 60
"""Columns of a whole graph; a longer one is cut down as well."""
_FAN: Final = 8
"""Steps that stand alike and are drawn one by one; more are folded."""
_UNFOLDED: Final = 200
"""Steps of a fan that are drawn when it is unfolded."""
_ALONE: Final = 8
"""Root causes that are drawn beside the fan that they belong to."""

# In pixels.
WIDTH: Final = 184
HEIGHT: Final = 46
_ACROSS: Final = 60
_DOWN: Final = 62
_MARGIN: Final = 10
_NAME_SHOWN: Final = 19


@dataclass(slots=True)
class Node:
    """A step that is drawn, or a fan of ``count`` that stand alike."""

    first: StepView
    count: int = 1
    states: Counter[StepState] = field(default_factory=Counter)
    status: OperatorStatus = OperatorStatus.WAITING
    root: bool = False
    focus: bool = False
    hidden: int = 0
    """How many of its neighbours are not drawn."""
    x: int = 0
    y: int = 0

    @property
    def name(self) -> str:
        return self.first.name

    @property
    def label(self) -> str:
        """The name, without its middle when it is long."""
        name = self.name
        most = _NAME_SHOWN if self.count == 1 else _NAME_SHOWN - len(f" x{self.count}")
        half = most // 2
        return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


@dataclass(frozen=True, slots=True)
class Line:
    """An edge as it is drawn: the path of an SVG."""

    parent: str
    child: str
    policy: EdgePolicy
    path: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The part of a graph that is drawn; ``left_out`` counts the steps that are not, ``unfolded``
    are the groups that can be folded again."""

    nodes: Sequence[Node]
    lines: Sequence[Line]
    width: int
    height: int
    left_out: int
    unfolded: str | None


def picture(
    graph: GraphView,
    statuses: Mapping[str, OperatorStatus],
    roots: Collection[str],
    *,
    focus: str | None = None,
    unfold: str | None = None,
    near: bool = False,
) -> Picture:
    """Draws a graph; ``roots`` are its root causes, ``near`` asks for the neighbourhood of
    ``focus`` alone."""
    ranks = [*OperatorStatus]
    owner, nodes = _folded(graph, _first(roots, _ALONE) | ({focus} if focus else set()), unfold)
    for step in graph.steps:
        node = nodes[owner[step.name]]
        node.states[step.state] += 1
        node.count = node.states.total()
        node.root |= step.name in roots
        node.focus |= step.name == focus
        status = statuses[step.name]
        if node.count == 1 or ranks.index(status) < ranks.index(node.status):
            node.status = status
    pairs = {(owner[edge.parent], owner[edge.child]): edge.policy for edge in graph.edges}
    ordered = _sorted_nodes(nodes, pairs)
    kept = set(nodes)
    if near or len(nodes) > DRAWN or _depth(ordered, pairs) > _LONGEST:
        centre = [focus] if focus else [name for name in ordered if nodes[name].root]
        kept = _neighbourhood(centre or ordered[:1], pairs)
        for one, other in pairs:
            if (one in kept) != (other in kept):
                nodes[one if one in kept else other].hidden += 1
    return _drawn(
        [nodes[name] for name in ordered if name in kept],
        {pair: policy for pair, policy in pairs.items() if kept.issuperset(pair)},
        left_out=sum(node.count for name, node in nodes.items() if name not in kept),
        unfolded=unfold,
    )


def _first(names: Iterable[str], count: int) -> set[str]:
    return set(list(names)[:count])


def _folded(
    graph: GraphView, alone: Collection[str], unfold: str | None
) -> tuple[dict[str, str], dict[str, Node]]:
    """For each step the node that it is drawn as, by the name of the node's first step."""
    kinds = _kinds(graph)
    members: defaultdict[int, list[StepView]] = defaultdict(list)
    for step in graph.steps:
        if step.name not in alone:
            members[kinds[step.name]].append(step)
    opened = kinds.get(unfold) if unfold else None
    owner = {step.name: step.name for step in graph.steps}
    for kind, fan in members.items():
        single = _UNFOLDED if kind == opened else _FAN if len(fan) <= _FAN else 0
        owner.update((step.name, fan[single].name) for step in fan[single:])
    nodes: dict[str, Node] = {}
    for step in graph.steps:
        nodes.setdefault(owner[step.name], Node(step))
    return owner, nodes


def _kinds(graph: GraphView) -> dict[str, int]:
    """Numbers that are equal for steps which stand alike: the same worker, after and before steps
    that stand alike, over edges of the same policy."""
    above: defaultdict[str, list[Edge]] = defaultdict(list)
    below: defaultdict[str, list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        above[edge.child].append(edge)
        below[edge.parent].append(edge)
    numbers: dict[object, int] = {}

    def number(*key: object) -> int:
        return numbers.setdefault(key, len(numbers))

    down: dict[str, int] = {}
    for step in graph.steps:
        parents = frozenset((down[edge.parent], edge.policy) for edge in above[step.name])
        down[step.name] = number("down", step.worker, parents)
    up: dict[str, int] = {}
    for step in reversed(graph.steps):
        children = frozenset((up[edge.child], edge.policy) for edge in below[step.name])
        up[step.name] = number("up", step.worker, children)
    return {name: number("both", down[name], up[name]) for name in down}


def _sorted_nodes(
    nodes: Mapping[str, Node], pairs: Mapping[tuple[str, str], EdgePolicy]
) -> list[str]:
    """The nodes in topological order; folding keeps it one."""
    after: defaultdict[str, list[str]] = defaultdict(list)
    missing: Counter[str] = Counter()
    for parent, child in pairs:
        after[parent].append(child)
        missing[child] += 1
    ready = deque(name for name in nodes if not missing[name])
    found = []
    while ready:
        name = ready.popleft()
        found.append(name)
        for child in after[name]:
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return found


def _depth(ordered: Sequence[str], pairs: Iterable[tuple[str, str]]) -> int:
    above: defaultdict[str, list[str]] = defaultdict(list)
    for parent, child in pairs:
        above[child].append(parent)
    depth: dict[str, int] = {}
    for name in ordered:
        depth[name] = 1 + max((depth[parent] for parent in above[name]), default=0)
    return max(depth.values(), default=0)


def _neighbourhood(centre: Sequence[str], pairs: Iterable[tuple[str, str]]) -> set[str]:
    """The nodes nearest to those of the centre, up or down, as many as are drawn."""
    beside: defaultdict[str, list[str]] = defaultdict(list)
    for parent, child in pairs:
        beside[parent].append(child)
        beside[child].append(parent)
    found = set(centre[:_NEAR])
    waiting = deque(centre[:_NEAR])
    while waiting:
        for other in beside[waiting.popleft()]:
            if other not in found and len(found) < _NEAR:
                found.add(other)
                waiting.append(other)
    return found


def _drawn(
    nodes: Sequence[Node],
    pairs: Mapping[tuple[str, str], EdgePolicy],
    *,
    left_out: int,
    unfolded: str | None,
) -> Picture:
    numbers = {node.name: number for number, node in enumerate(nodes)}
    edges = {(numbers[one], numbers[other]): policy for (one, other), policy in pairs.items()}
    layout = layered(len(nodes), [*edges])
    for node, (column, row) in zip(nodes, layout.places, strict=True):
        node.x, node.y = _across(column), _down(row)
    lines = []
    for (one, other), policy in edges.items():
        parent, child = nodes[one], nodes[other]
        middle = HEIGHT // 2
        first = layout.places[one][0] + 1
        points = [(parent.x + WIDTH, parent.y + middle)]
        for place, row in enumerate(layout.bends[one, other]):
            x, y = _across(first + place), _down(row) + middle
            points += [(x, y), (x + WIDTH, y)]
        points.append((child.x, child.y + middle))
        lines.append(Line(parent.name, child.name, policy, _path(points)))
    return Picture(
        nodes,
        lines,
        _across(max(layout.columns - 1, 0)) + WIDTH + _MARGIN,
        _down(layout.rows) + HEIGHT + _MARGIN,
        left_out,
        unfolded,
    )


def _across(column: int) -> int:
    return _MARGIN + column * (WIDTH + _ACROSS)


def _down(row: float) -> int:
    return _MARGIN + round(row * _DOWN)


def _path(points: Sequence[tuple[int, int]]) -> str:
    """A curve through these points: bent between columns, straight along one."""
    (x, y), *rest = points
    parts = [f"M{x} {y}"]
    for place, (to_x, to_y) in enumerate(rest):
        if place % 2:  # along the column that it passes
            parts.append(f"H{to_x}")
        else:
            half = (x + to_x) // 2
            parts.append(f"C{half} {y} {half} {to_y} {to_x} {to_y}")
        x, y = to_x, to_y
    return "".join(parts)
