"""A workflow's graph as text, Mermaid or DOT; ``blocked`` is as ``status_of`` takes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from rwf.cli.common import headline
from rwf.model.names import escaped
from rwf.model.operator_status import held_by_retries, status_of
from rwf.model.states import EdgePolicy
from rwf.model.views import Edge, GraphView


def _status(graph: GraphView, blocked: Mapping[str, str]) -> Mapping[str, str]:
    """Each step's operator status and state."""
    held = held_by_retries(graph)
    return {
        step.name: f"{status_of(step, graph.workflow, held, blocked)}, {step.state}"
        for step in graph.steps
    }


def text(graph: GraphView, blocked: Mapping[str, str]) -> Iterator[str]:
    """One line a step, in topological order, with what it depends on."""
    yield headline(graph.workflow)
    above: defaultdict[str, list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        above[edge.child].append(edge)
    for name, status in _status(graph, blocked).items():
        parents = [
            escaped(edge.parent) + (" (continue)" if edge.policy is EdgePolicy.CONTINUE else "")
            for edge in above[name]
        ]
        after = f"  <- {', '.join(parents)}" if parents else ""
        yield f"  {escaped(name)}  [{status}]{after}"


def mermaid(graph: GraphView, blocked: Mapping[str, str]) -> Iterator[str]:
    """A Mermaid flowchart; ``continue`` edges are dotted."""
    numbers = _numbers(graph)
    yield "flowchart TD"
    for name, status in _status(graph, blocked).items():
        yield f'  n{numbers[name]}["{_mermaid(name)}<br/>{status}"]'
    for edge in graph.edges:
        arrow = "-. continue .->" if edge.policy is EdgePolicy.CONTINUE else "-->"
        yield f"  n{numbers[edge.parent]} {arrow} n{numbers[edge.child]}"


def dot(graph: GraphView, blocked: Mapping[str, str]) -> Iterator[str]:
    """A Graphviz digraph; ``continue`` edges are dashed."""
    numbers = _numbers(graph)
    yield f"digraph {_dot(graph.workflow.name)} {{"
    yield "  node [shape=box];"
    for name, status in _status(graph, blocked).items():
        yield f"  n{numbers[name]} [label={_dot(name, status)}];"
    for edge in graph.edges:
        style = ' [style=dashed, label="continue"]' if edge.policy is EdgePolicy.CONTINUE else ""
        yield f"  n{numbers[edge.parent]} -> n{numbers[edge.child]}{style};"
    yield "}"


def _numbers(graph: GraphView) -> Mapping[str, int]:
    # Names may be keywords of the target language; numbers cannot.
    return {step.name: number for number, step in enumerate(graph.steps)}


def _mermaid(name: str) -> str:
    """A name inside a quoted label, every character that could mean something as an entity."""
    return "".join(c if c.isalnum() or c in "._-" else f"#{ord(c)};" for c in name)


def _dot(*lines: str) -> str:
    """A quoted string of these lines."""
    quoted = [escaped(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(quoted) + '"'


FORMS: Final[Mapping[str, Callable[[GraphView, Mapping[str, str]], Iterator[str]]]] = {
    "text": text,
    "mermaid": mermaid,
    "dot": dot,
}
