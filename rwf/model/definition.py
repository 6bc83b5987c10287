"""Steps and the edges between them, under construction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Self

from rwf.errors import WorkflowInvalid
from rwf.model.names import checked_name, shown
from rwf.model.states import EdgePolicy
from rwf.model.step import StepDef, invalid, with_parameters_of


class Definition:
    """Base of workflows and fragments: steps, and edges between them, are added to it."""

    __slots__ = ("_edges", "_steps")

    def __init__(self) -> None:
        self._steps: dict[str, StepDef] = {}
        # Only the keys count: an edge that is given twice is kept once.
        self._edges: dict[tuple[str, str, EdgePolicy], None] = {}

    @property
    def steps(self) -> tuple[StepDef, ...]:
        """The steps so far, in the order in which they were added."""
        return tuple(self._steps.values())

    @with_parameters_of(StepDef)
    def add(self, *args: Any, **fields: Any) -> Self:
        """Adds a step, and returns this definition.

        - ``name``, ``queue``: match ``[A-Za-z0-9._-]{1,128}``.
        - ``worker``: the name of its handler: 1 to 256 characters without control characters, or a
          registered handler (an object whose ``rwf_worker`` is such a name).
        - ``input``: a JSON value, in which :func:`result`, :func:`outcome` and :func:`results` may
          stand anywhere; None for none.
        - ``context``: a JSON value that explains the step to readers; None for none.
        - ``deps``: names of steps that it waits for, over ``cancel`` edges, present or yet to
          add.
        - ``priority``: -999 to 999, higher first. ``max_attempts``: 1 to 1,000.
        - ``backoff``: what :meth:`Backoff.of` takes; None for the default.
        - ``timeout``: positive seconds (at most 1e9) or timedelta; None for none.
        - ``when``: a condition on results, such as ``result("check", "ok") == True``, which is
          judged when the step is claimed; where it does not hold, the branch is skipped.
        - ``always``: it runs once its parents have ended in whatever way, and neither a cancel
          request nor a deadline cancels it.

        Raises :class:`WorkflowInvalid`: ``invalid_name``, ``invalid_step_definition``,
        ``duplicate_step_name``, ``self_loop``, ``non_serializable_payload``, ``reserved_key``, and
        ``payload_too_large`` for more than 16 MiB (a client's own limit is checked later).
        """
        return self._add(StepDef(*args, **fields))

    def add_many(self, steps: Iterable[StepDef | Mapping[str, Any]]) -> Self:
        """Adds steps in turn: mappings of :meth:`add`'s parameters, or :class:`StepDef`.

        Returns this definition. Raises as :meth:`add` does, and ``invalid_step_definition`` for
        unknown or missing fields; the steps before the refused one have then been added.
        """
        for step in steps:
            self._add(step if isinstance(step, StepDef) else StepDef.from_mapping(step))
        return self

    def _add(self, step: StepDef) -> Self:
        if self._steps.setdefault(step.name, step) is not step:
            raise WorkflowInvalid(
                "duplicate_step_name", f"there is a step {step.name!r} already", step=step.name
            )
        return self

    def connect(
        self, parent: str, child: str, policy: EdgePolicy | str = EdgePolicy.CANCEL
    ) -> Self:
        """Makes ``child`` wait for ``parent``, and returns this definition.

        ``policy``: when the parent ends other than completed, ``cancel`` cancels the child, and
        ``continue`` releases it. Over ``on_failure`` edges the child runs only then: it is skipped
        once all these parents have completed. Both steps may be added later. Raises
        :class:`WorkflowInvalid`: ``invalid_name``, ``self_loop``, ``invalid_step_definition``.
        """
        parent = checked_name(parent, "an edge's parent")
        child = checked_name(child, "an edge's child")
        if parent == child:
            raise WorkflowInvalid("self_loop", f"step {child!r} connects to itself", step=child)
        if not isinstance(policy, str) or policy not in set(EdgePolicy):
            raise invalid(
                f"the policy of an edge must be one of {', '.join(EdgePolicy)},"
                f" not {shown(policy)}",
                parent=parent,
                child=child,
            )
        self._edges[parent, child, EdgePolicy(policy)] = None
        return self

    @property
    def edges(self) -> tuple[tuple[str, str, EdgePolicy], ...]:
        """Parent, child and policy of each edge that was connected, in the order of the calls."""
        return tuple(self._edges)

    def _form(self) -> dict[str, Any]:
        """The JSON form of steps and edges."""
        form: dict[str, Any] = {"steps": [step.to_dict() for step in self._steps.values()]}
        if self._edges:
            form["edges"] = [_edge_dict(*edge) for edge in self._edges]
        return form

    def _fill(self, form: Mapping[str, Any]) -> None:
        """Adds the steps and edges of the JSON form."""
        for step in _listed(form, "steps"):
            self._add(StepDef.from_dict(step))
        for edge in _listed(form, "edges"):
            check_keys("an edge", edge, {"parent", "child", "policy"})
            self.connect(
                edge.get("parent"), edge.get("child"), edge.get("policy", EdgePolicy.CANCEL)
            )


def _edge_dict(parent: str, child: str, policy: EdgePolicy) -> dict[str, str]:
    edge = {"parent": parent, "child": child}
    if policy is not EdgePolicy.CANCEL:
        edge["policy"] = policy.value
    return edge


def check_keys(what: str, form: object, known: Collection[str]) -> None:
    if not isinstance(form, Mapping):
        raise invalid(f"{what} must be an object, not {shown(form)}")
    for key in form:
        if key not in known:
            raise invalid(f"{what} has no key {shown(key)}")


def _listed(form: Mapping[str, Any], key: str) -> list[Any]:
    value = form.get(key, [])
    if not isinstance(value, list):
        raise invalid(f"{key!r} must be a list, not {shown(value)}")
    return value
