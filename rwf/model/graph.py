"""A validated definition: steps in topological order, with all edges, as it is inserted."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

import orjson

from rwf.errors import WorkflowInvalid
from rwf.model import dag
from rwf.model.payload import check_size, decode
from rwf.model.retry import Backoff
from rwf.model.states import BRANCHING_VERSION, SEMANTICS_VERSION, EdgePolicy
from rwf.model.step import StepDef
from rwf.model.tags import Tags

Edge = tuple[str, EdgePolicy]
ConnectedEdge = tuple[str, str, EdgePolicy]

# Part of what is hashed: changed when the same definition would give another digest.
_DIGEST_VERSION: Final = 1
_CYCLE_NAMES_IN_MESSAGE: Final = 10


class GraphStep(NamedTuple):
    """One step of a graph; ``position`` is its place in topological order, from 0.

    ``backoff`` is None for the default, ``timeout`` is in seconds or None for none, ``input`` and
    ``context`` are JSON or None for none; ``references`` are the steps whose results the input or
    the condition ``when`` refers to, ``outcomes`` those whose outcomes the input refers to, and
    ``lists`` those of which it refers to the results of what they append.
    ``parents`` and ``children`` are ordered by position.
    """

    name: str
    worker: str
    queue: str
    priority: int
    max_attempts: int
    backoff: Backoff | None
    timeout: float | None
    input: bytes | None
    context: bytes | None
    references: tuple[str, ...]
    parents: tuple[Edge, ...]
    children: tuple[Edge, ...]
    position: int
    when: bytes | None = None
    always: bool = False
    outcomes: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()

    @property
    def branches(self) -> bool:
        """Whether the step uses something that only semantics version 3 has."""
        return (
            self.when is not None
            or self.always
            or bool(self.outcomes)
            or bool(self.lists)
            or any(policy is EdgePolicy.ON_FAILURE for _, policy in self.parents)
        )


@dataclass(frozen=True, slots=True)
class Graph:
    """A definition that passed validation, its steps in topological order.

    Among steps that could come next the order is that of the definition. ``digest`` is the hex
    SHA-256 of the meaning: it does not depend on the order of object keys, of edges, or of steps
    as far as the topological order is the same. ``deadline`` is in milliseconds, None for none;
    ``tags`` are in the order of their keys.
    """

    name: str
    definition_version: int
    context: bytes | None
    steps: tuple[GraphStep, ...]
    digest: str
    deadline: int | None = None
    tags: Tags = ()

    @property
    def semantics_version(self) -> int:
        """The earliest version that has all that it uses."""
        branches = self.deadline is not None or any(step.branches for step in self.steps)
        return BRANCHING_VERSION if branches else SEMANTICS_VERSION


def compile_graph(
    name: str,
    definition_version: int,
    context: bytes | None,
    deadline: int | None,
    tags: Tags,
    steps: Sequence[StepDef],
    edges: Iterable[ConnectedEdge],
    *,
    max_payload: int,
    max_steps: int,
) -> Graph:
    """Checks what only the whole graph shows, and puts it in order.

    ``steps`` have distinct names. A reference to the result of a step that the explicit edges
    (``deps`` and ``connect``) do not make an ancestor adds a ``cancel`` edge from it, and one to
    its outcome a ``continue`` edge, which is added where both are. Edges that references add are
    not considered for that: which ones are added depends neither on the order of steps nor on that
    of references. All ``cancel`` edges that lead to a step with ``always`` are ``continue`` edges.

    Raises :class:`WorkflowInvalid`: ``no_steps``, ``workflow_too_large``, ``payload_too_large``,
    ``missing_dependency``, ``duplicate_edge``, ``unknown_result_step``, ``cycle_detected``.
    """
    if not steps:
        raise WorkflowInvalid("no_steps", "a workflow needs at least one step")
    if context is not None:
        check_size(len(context), path="$.context", max_bytes=max_payload)
    check_sizes(steps, max_payload, max_steps)
    index = {step.name: number for number, step in enumerate(steps)}
    parents = _explicit_parents(steps, edges, index, index)
    order = _add_references(steps, parents, index)
    _keep_always(steps, parents)
    compiled = _in_order(steps, parents, order)
    digest = _digest(name, definition_version, context, deadline, tags, compiled)
    return Graph(name, definition_version, context, compiled, digest, deadline, tags)


def compile_fragment(
    steps: Sequence[StepDef],
    edges: Iterable[ConnectedEdge],
    outside: Sequence[str],
    after: str | None,
    related: Mapping[str, Collection[str]],
    *,
    max_payload: int,
    max_steps: int,
) -> tuple[GraphStep, ...]:
    """Checks steps that are to be appended, and puts them in order, their positions from 0.

    ``outside``: the steps of the workflow that they depend on or refer to. ``after``: which of
    these steps without dependencies depend on. ``related``: of each, which others of these are its
    ancestors. Edges are as of :func:`compile_graph`; it raises the same, but no ``no_steps``.
    """
    check_sizes(steps, max_payload, max_steps)
    others = [StepDef(name, worker=name) for name in outside]
    every = [*others, *steps]
    index = {step.name: number for number, step in enumerate(every)}
    own = {step.name for step in steps}
    parents = _explicit_parents(every, edges, index, own)
    for number, other in enumerate(others):
        ancestors = (index[name] for name in related.get(other.name, ()))
        parents[number] = dict.fromkeys(ancestors, EdgePolicy.CANCEL)
    if after is not None:
        for number, step in enumerate(steps, len(others)):
            referred = (*step.references, *step.outcomes, *step.lists)
            if not parents[number] and own.isdisjoint(referred):
                parents[number][index[after]] = EdgePolicy.CANCEL
    order = _add_references(every, parents, index)
    _keep_always(every, parents)
    compiled = _in_order(every, parents, order)
    appended = [step for step in compiled if step.name in own]
    return tuple(step._replace(position=place) for place, step in enumerate(appended))


def check_sizes(steps: Sequence[StepDef], max_payload: int, max_steps: int) -> None:
    """Raises :class:`WorkflowInvalid`, ``workflow_too_large`` and ``payload_too_large``."""
    if len(steps) > max_steps:
        raise WorkflowInvalid(
            "workflow_too_large",
            f"{len(steps)} steps, the limit is {max_steps}",
            steps=len(steps),
            limit=max_steps,
        )
    for step in steps:
        if step.input is not None and len(step.input) > max_payload:
            check_size(len(step.input), path=step.path_of("input"), max_bytes=max_payload)
        if step.context is not None and len(step.context) > max_payload:
            check_size(len(step.context), path=step.path_of("context"), max_bytes=max_payload)


def _explicit_parents(
    steps: Sequence[StepDef],
    edges: Iterable[ConnectedEdge],
    index: dict[str, int],
    own: Container[str],
) -> list[dict[int, EdgePolicy]]:
    parents: list[dict[int, EdgePolicy]] = []
    for step in steps:
        try:
            parents.append(dict.fromkeys([index[dep] for dep in step.deps], EdgePolicy.CANCEL))
        except KeyError as error:
            raise _missing(step.name, error.args[0]) from None
    for parent, child, policy in edges:
        if child not in own:
            raise WorkflowInvalid(
                "missing_dependency",
                f"the edge from {parent!r} leads to {child!r}, which is not a step",
                step=child,
                dependency=parent,
            )
        if parent not in index:
            raise _missing(child, parent)
        present = parents[index[child]].setdefault(index[parent], policy)
        if present is not policy:
            raise WorkflowInvalid(
                "duplicate_edge",
                f"the edge from {parent!r} to {child!r} is both {present} and {policy}",
                parent=parent,
                child=child,
            )
    return parents


def _missing(step: str, dependency: str) -> WorkflowInvalid:
    return WorkflowInvalid(
        "missing_dependency",
        f"step {step!r} depends on {dependency!r}, which is not a step",
        step=step,
        dependency=dependency,
    )


def _add_references(
    steps: Sequence[StepDef], parents: list[dict[int, EdgePolicy]], index: dict[str, int]
) -> list[int]:
    """Adds the edges that references imply, and returns the topological order with them."""
    indirect: dict[tuple[int, int], EdgePolicy] = {}
    for child, step in enumerate(steps):
        policies = dict.fromkeys((*step.references, *step.lists), EdgePolicy.CANCEL)
        policies.update(dict.fromkeys(step.outcomes, EdgePolicy.CONTINUE))
        for reference, policy in policies.items():
            if reference not in index:
                raise WorkflowInvalid(
                    "unknown_result_step",
                    f"step {step.name!r} refers to {reference!r}, which is not a step",
                    step=step.name,
                    reference=reference,
                )
            if index[reference] not in parents[child]:
                indirect[index[reference], child] = policy
    order = _order(steps, parents)
    if not indirect:
        return order
    known = dag.connected(parents, order, list(indirect))
    for (parent, child), policy in indirect.items():
        if (parent, child) not in known:
            parents[child][parent] = policy
    return _order(steps, parents)


def _keep_always(steps: Sequence[StepDef], parents: list[dict[int, EdgePolicy]]) -> None:
    """Has nothing cancel a step that always runs."""
    for step, above in zip(steps, parents, strict=True):
        if not step.always:
            continue
        for parent, policy in above.items():
            if policy is EdgePolicy.ON_FAILURE:
                raise WorkflowInvalid(
                    "invalid_step_definition",
                    f"step {step.name!r} always runs: no edge to it is on_failure",
                    step=step.name,
                    parent=steps[parent].name,
                )
            above[parent] = EdgePolicy.CONTINUE


def _order(steps: Sequence[StepDef], parents: dag.Parents) -> list[int]:
    order = dag.topological_order(parents)
    if len(order) == len(steps):
        return order
    cycle = [steps[number].name for number in dag.find_cycle(parents, order)]
    named = " -> ".join(cycle[:_CYCLE_NAMES_IN_MESSAGE])
    more = len(cycle) - _CYCLE_NAMES_IN_MESSAGE
    closing = f"... ({more} more)" if more > 0 else cycle[0]
    raise WorkflowInvalid("cycle_detected", f"{named} -> {closing}", cycle=cycle)


def _in_order(
    steps: Sequence[StepDef], parents: Sequence[dict[int, EdgePolicy]], order: Sequence[int]
) -> tuple[GraphStep, ...]:
    # The edges that other steps have to a step are shared, as there can be 100,000 of them.
    used = {policy for above in parents for policy in above.values()}
    pairs = {policy: [(step.name, policy) for step in steps] for policy in used}
    children: list[list[Edge]] = [[] for _ in steps]
    position = [0] * len(steps)
    for place, number in enumerate(order):
        position[number] = place
        for parent, policy in parents[number].items():
            children[parent].append(pairs[policy][number])
    compiled = []
    for place, number in enumerate(order):
        step = steps[number]
        edges = parents[number]
        above = sorted(edges, key=position.__getitem__) if len(edges) > 1 else edges
        compiled.append(
            GraphStep(
                step.name,
                step.worker,
                step.queue,
                step.priority,
                step.max_attempts,
                step.backoff,
                step.timeout,
                step.input,
                step.context,
                step.references,
                tuple([pairs[edges[parent]][parent] for parent in above]),
                tuple(children[number]),
                place,
                step.when,
                step.always,
                step.outcomes,
                step.lists,
            )
        )
    return tuple(compiled)


def _digest(
    name: str,
    definition_version: int,
    context: bytes | None,
    deadline: int | None,
    tags: Tags,
    steps: Iterable[GraphStep],
) -> str:
    head = [_DIGEST_VERSION, name, definition_version, _value(context)]
    if deadline is not None:
        head.append(deadline)
    if tags:
        head.append(dict(tags))
    digest = sha256(orjson.dumps(head, option=orjson.OPT_SORT_KEYS))
    for step in steps:
        record = [
            step.name,
            step.worker,
            step.queue,
            step.priority,
            step.max_attempts,
            None if step.backoff is None else step.backoff.to_dict(),
            step.timeout,
            _value(step.input),
            _value(step.context),
            step.parents,
        ]
        if step.when is not None or step.always:
            record += [_value(step.when), step.always]
        digest.update(b"\n")
        digest.update(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def _value(encoded: bytes | None) -> object:
    return None if encoded is None else decode(encoded)
