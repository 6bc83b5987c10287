"""Steps that are to be appended to a workflow that is there (contract §14)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from rwf.model.definition import Definition, check_keys
from rwf.model.graph import GraphStep, compile_fragment
from rwf.model.limits import MAX_PAYLOAD, MAX_STEPS

_KEYS: Final = frozenset({"steps", "edges"})


class Fragment(Definition):
    """Steps under construction that are to be appended to a workflow, and edges to them.

    Dependencies, edges and references may come from other steps of the fragment, and from steps of
    the workflow. A fragment without steps is one, too. Raises :class:`WorkflowInvalid` as
    :class:`rwf.Workflow` does.
    """

    __slots__ = ()

    @property
    def dependencies(self) -> list[str]:
        """The steps that are not its own which its steps depend on, in order of their names."""
        named = {name for step in self._steps.values() for name in step.deps}
        named |= {parent for parent, _, _ in self._edges}
        return sorted(named - self._steps.keys())

    @property
    def referred(self) -> list[str]:
        """The steps that are not its own which its steps refer to, in order of their names."""
        named = {
            name
            for step in self._steps.values()
            for name in (*step.references, *step.outcomes, *step.lists)
        }
        return sorted(named - self._steps.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._steps

    def compile(
        self,
        *,
        after: str | None = None,
        related: Mapping[str, Collection[str]] | None = None,
        max_payload: int = MAX_PAYLOAD,
        max_steps: int = MAX_STEPS,
    ) -> tuple[GraphStep, ...]:
        """The steps with all their edges, in topological order; what is not its own is taken to be
        there (:func:`rwf.model.graph.compile_fragment`)."""
        outside = dict.fromkeys([*self.dependencies, *self.referred])
        if after is not None:
            outside[after] = None
        return compile_fragment(
            self.steps,
            self.edges,
            [*outside],
            after,
            related or {},
            max_payload=max_payload,
            max_steps=max_steps,
        )

    def validate(self, *, max_payload: int = MAX_PAYLOAD, max_steps: int = MAX_STEPS) -> None:
        """Raises what is wrong whatever the workflow is; touches no server."""
        self.compile(max_payload=max_payload, max_steps=max_steps)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, ``{"steps": [...], "edges": [...]}``, as of :meth:`rwf.Workflow.to_dict`;
        :meth:`from_dict` takes it back."""
        return self._form()

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Fragment:
        """A fragment from its JSON form; raises as :meth:`rwf.Workflow.from_dict` does."""
        check_keys("a fragment", form, _KEYS)
        fragment = cls()
        fragment._fill(form)
        return fragment

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fragment):
            return NotImplemented
        return self.steps == other.steps and self._edges == other._edges

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<Fragment: {len(self._steps)} steps>"
