"""Building a workflow, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from rwf.errors import WorkflowInvalid
from rwf.model.conditions import Condition, result
from rwf.model.definition import Definition, check_keys
from rwf.model.graph import Graph, GraphStep, compile_graph
from rwf.model.limits import MAX_PAYLOAD, MAX_STEPS
from rwf.model.names import checked_name, shown
from rwf.model.payload import decode
from rwf.model.references import OutcomeRef, Ref, outcome
from rwf.model.step import Handler, StepDef, capture, invalid
from rwf.model.tags import checked_tags

__all__ = [
    "Condition",
    "Graph",
    "GraphStep",
    "Handler",
    "OutcomeRef",
    "Ref",
    "StepDef",
    "Workflow",
    "outcome",
    "result",
]

DEFAULT_DEFINITION_VERSION: Final = 1
_MAX_DEFINITION_VERSION: Final = 2**53 - 1
_LONGEST_DEADLINE: Final = timedelta(days=36_500)
_KEYS: Final = frozenset(
    {"name", "context", "definition_version", "deadline", "tags", "steps", "edges"}
)


class Workflow(Definition):
    """A definition under construction: steps, and edges between them.

    ``name`` matches ``[A-Za-z0-9._-]{1,128}``; ``context`` is any JSON value that the workflow
    carries for its readers; ``definition_version`` is an integer from 0 to 2**53-1; ``deadline``
    is a timedelta from 1 ms to 100 years, counted from the workflow's start, after which it is
    asked to end. ``tags`` are what it is to be found by: at most 16, keys and values strings of 1
    to 128 characters.

    A value that is wrong by itself is refused at once, everything else by :meth:`compile`, all
    as :class:`WorkflowInvalid`. The constructor: ``workflow_name_required``, ``invalid_name``,
    ``invalid_step_definition`` for version and deadline, ``invalid_tags``, and for the context
    ``non_serializable_payload``, ``reserved_key`` and ``payload_too_large``.

    Two workflows are equal when they were given the same steps in the same order and the same
    edges. Definitions that mean the same have compiled graphs of the same ``digest``.
    """

    __slots__ = ("_context", "_deadline", "_definition_version", "_name", "_tags")

    def __init__(
        self,
        name: str,
        *,
        context: Any = None,
        definition_version: int = DEFAULT_DEFINITION_VERSION,
        deadline: timedelta | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise WorkflowInvalid("workflow_name_required", f"not a name: {shown(name)}")
        self._name = checked_name(name, "a workflow's name")
        self._context = None if context is None else capture(context, "$.context")
        self._definition_version = _checked_version(definition_version)
        self._deadline = None if deadline is None else _checked_deadline(deadline)
        self._tags = () if tags is None else checked_tags(tags)
        super().__init__()

    @property
    def name(self) -> str:
        return self._name

    @property
    def definition_version(self) -> int:
        return self._definition_version

    @property
    def deadline(self) -> timedelta | None:
        """How long after its start the workflow is asked to end; None for never."""
        return None if self._deadline is None else timedelta(milliseconds=self._deadline)

    @property
    def tags(self) -> dict[str, str]:
        """The tags by which it can be found."""
        return dict(self._tags)

    def compile(self, *, max_payload: int = MAX_PAYLOAD, max_steps: int = MAX_STEPS) -> Graph:
        """The validated graph. ``max_payload`` is in bytes, for each input and context.

        Edges come from ``deps``, from :meth:`connect`, and from references: one to the result of a
        step that the other edges do not make an ancestor adds a ``cancel`` edge from it, and one to
        its outcome a ``continue`` edge. ``cancel`` edges to a step that always runs are
        ``continue`` edges.

        Raises :class:`WorkflowInvalid`: ``no_steps``, ``workflow_too_large``,
        ``payload_too_large``, ``missing_dependency``, ``duplicate_edge`` (one pair with two
        policies; ``deps`` means ``cancel``), ``unknown_result_step``, and ``cycle_detected``, whose
        details hold the ``cycle``: names, each a parent of the next, the last one of the first,
        none twice.
        """
        return compile_graph(
            self._name,
            self._definition_version,
            self._context,
            self._deadline,
            self._tags,
            self.steps,
            self._edges,
            max_payload=max_payload,
            max_steps=max_steps,
        )

    def validate(self, *, max_payload: int = MAX_PAYLOAD, max_steps: int = MAX_STEPS) -> None:
        """Raises what :meth:`compile` raises; touches no server."""
        self.compile(max_payload=max_payload, max_steps=max_steps)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, without what has its default; :meth:`from_dict` takes it back.

        ``{"name", "context", "definition_version", "deadline", "tags": {key: value}, "steps":
        [{"name", "worker", ...}], "edges": [{"parent", "child", "policy"}]}``. References are
        ``{"$result": "step"}``, with ``"path"`` where they have one, ``{"$outcome": "step"}`` and
        ``{"$results": "step"}``; conditions are lists (``rwf.model.conditions``), and the deadline
        is in seconds.
        """
        form: dict[str, Any] = {"name": self._name}
        if self._context is not None:
            form["context"] = decode(self._context)
        if self._definition_version != DEFAULT_DEFINITION_VERSION:
            form["definition_version"] = self._definition_version
        if self._deadline is not None:
            form["deadline"] = self._deadline / 1000
        if self._tags:
            form["tags"] = dict(self._tags)
        return form | self._form()

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Workflow:
        """A workflow from its JSON form.

        Raises :class:`WorkflowInvalid` as building it by calls does; unknown keys and wrong shapes
        are ``invalid_step_definition``. ``{"$result": ...}``, ``{"$outcome": ...}`` and
        ``{"$results": ...}`` objects are references in inputs only.
        """
        check_keys("a workflow", form, _KEYS)
        workflow = cls(
            form.get("name", ""),
            context=form.get("context"),
            definition_version=form.get("definition_version", DEFAULT_DEFINITION_VERSION),
            deadline=_deadline_of(form.get("deadline")),
            tags=form.get("tags"),
        )
        workflow._fill(form)
        return workflow

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Workflow):
            return NotImplemented
        return (
            self._name == other._name
            and self._context == other._context
            and self._definition_version == other._definition_version
            and self._deadline == other._deadline
            and self._tags == other._tags
            and self.steps == other.steps
            and self._edges == other._edges
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<Workflow {self._name!r}: {len(self._steps)} steps>"


def _checked_version(version: int) -> int:
    is_int = isinstance(version, int) and not isinstance(version, bool)
    if not is_int or not 0 <= version <= _MAX_DEFINITION_VERSION:
        raise invalid(
            f"definition_version must be an integer from 0 to 2**53-1, not {shown(version)}"
        )
    return int(version)


def _checked_deadline(deadline: timedelta) -> int:
    """A deadline in milliseconds."""
    if isinstance(deadline, timedelta) and timedelta(0) < deadline <= _LONGEST_DEADLINE:
        return max(deadline // timedelta(milliseconds=1), 1)
    raise invalid(f"deadline must be a timedelta up to 100 years, not {shown(deadline)}")


def _deadline_of(seconds: object) -> timedelta | None:
    """A deadline from the JSON form."""
    if seconds is None:
        return None
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 0 < seconds <= _LONGEST_DEADLINE.total_seconds()
    ):
        raise invalid(f"deadline must be seconds up to 100 years, not {shown(seconds)}")
    return timedelta(milliseconds=round(seconds * 1000))
