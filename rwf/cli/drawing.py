"""A workflow's graph as a drawing, text, Mermaid or DOT; ``blocked`` is as ``status_of`` takes
it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from rwf.cli.common import headline
from rwf.cli.lanes import drawn
from rwf.model.conditions import described
from rwf.model.names import escaped
from rwf.model.operator_status import held_by_retries, status_of
from rwf.model.signs import STATE_SIGNS
from rwf.model.states import EdgePolicy, StepCause
from rwf.model.views import Edge, GraphView, StepView


def _status(graph: GraphView, blocked: Mapping[str, str]) -> Mapping[str, str]:
    """Each step's operator status and state, and what decides whether it runs."""
    held = held_by_retries(graph)
    return {
        step.name: f"{status_of(step, graph.workflow, held, blocked)}, {_state(step)}"
        for step in graph.steps
    }


def _state(step: StepView) -> str:
    state = "skipped" if step.terminal_cause is StepCause.SKIPPED else str(step.state)
    if step.awaiting is not None and step.awaiting.child is not None:
        state += f", runs {step.awaiting.child}"
    if step.always:
        state += ", always runs"
    return state if step.when is None else f"{state}, when {described(step.when)}"


def _policy(edge: Edge) -> str:
    """An edge's policy in words; empty for the usual one."""
    return "" if edge.policy is EdgePolicy.CANCEL else edge.policy.replace("_", " ")


def text(graph: GraphView, blocked: Mapping[str, str]) -> Iterator[str]:
    """One line a step, in topological order, with what it depends on."""
    yield headline(graph.workflow)
    above: defaultdict[str, list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        above[edge.child].append(edge)
    for name, status in _status(graph, blocked).items():
        parents = [
            escaped(edge.parent) + (f" ({policy})" if (policy := _policy(edge)) else "")
            for edge in above[name]
        ]
        after = f"  <- {', '.join(parents)}" if parents else ""
        yield f"  {escaped(name)}  [{escaped(status)}]{after}"


def drawing(graph: GraphView, blocked: Mapping[str, str]) -> Iterator[str]:
    """A line a step, in topological order, with the edges as lanes beside; as text where that would
    take too many."""
    try:
        lines = list(drawn(graph, [STATE_SIGNS[step.state] for step in graph.steps]))
    except ValueError:
        yield from text(graph, blocked)
        return
    yield headline(graph.workflow)
    unusual: defaultdict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        if policy := _policy(edge):
            unusual[edge.child].append(f"{escaped(edge.parent)} ({policy})")
    names, statuses = [step.name for step in graph.steps], _status(graph, blocked)
    width = max(len(line) for line, number in lines if number is not None)
    for line, number in lines:
        if number is None:
            yield f"  {line}"
            continue
        name = names[number]
        after = f"  <- {', '.join(unusual[name])}" if unusual[name] else ""
        yield f"  {line:<{width}}  {escaped(name)}  [{escaped(statuses[name])}]{after}"


def mermaid(graph: GraphView, blocked: Mapping[str, str]) -> Iterator[str]:
    """A Mermaid flowchart; edges that do not cancel are dotted."""
    numbers = _numbers(graph)
    yield "flowchart TD"
    for name, status in _status(graph, blocked).items():
        yield f'  n{numbers[name]}["{_mermaid(name)}<br/>{_mermaid(status, " ,")}"]'
    for edge in graph.edges:
        arrow = f"-. {policy} .->" if (policy := _policy(edge)) else "-->"
        yield f"  n{numbers[edge.parent]} {arrow} n{numbers[edge.child]}"


def dot(graph: GraphView, blocked: Mapping[str, str]) -> Iterator[str]:
    """A Graphviz digraph; edges that do not cancel are dashed."""
    numbers = _numbers(graph)
    yield f"digraph {_dot(graph.workflow.name)} {{"
    yield "  node [shape=box];"
    for name, status in _status(graph, blocked).items():
        yield f"  n{numbers[name]} [label={_dot(name, status)}];"
    for edge in graph.edges:
        policy = _policy(edge)
        style = f' [style=dashed, label="{policy}"]' if policy else ""
        yield f"  n{numbers[edge.parent]} -> n{numbers[edge.child]}{style};"
    yield "}"


def _numbers(graph: GraphView) -> Mapping[str, int]:
    # Names may be keywords of the target language; numbers cannot.
    return {step.name: number for number, step in enumerate(graph.steps)}


def _mermaid(text: str, plain: str = "") -> str:
    """A text inside a quoted label, every character that could mean something as an entity."""
    return "".join(c if c.isalnum() or c in f"._-{plain}" else f"#{ord(c)};" for c in text)


def _dot(*lines: str) -> str:
    """A quoted string of these lines."""
    quoted = [escaped(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(quoted) + '"'


FORMS: Final[Mapping[str, Callable[[GraphView, Mapping[str, str]], Iterator[str]]]] = {
    "drawing": drawing,
    "text": text,
    "mermaid": mermaid,
    "dot": dot,
}
