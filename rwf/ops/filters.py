"""Filters of workflows, as lists, counts and bulk sessions take them (contract §17)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict, TypeVar

from rwf.errors import WorkflowInvalid
from rwf.model.names import shown
from rwf.model.operator_status import workflow_status
from rwf.model.states import (
    TERMINAL_WORKFLOWS,
    WORKFLOW_CODE,
    OperatorStatus,
    WorkflowState,
)
from rwf.model.tags import checked_tags, stored_tag
from rwf.model.views import WorkflowView
from rwf.ops.base import checked_text, invalid, wire_name
from rwf.protocol.codecs import EPOCH
from rwf.protocol.functions.reads import CountPlaces, FindWorkflows, ListPlaces
from rwf.protocol.headers import Header
from rwf.protocol.keys import partition_of

OPEN_GROUP: Final = "o"
_ALL: Final = OPEN_GROUP + "".join(WORKFLOW_CODE.values())
_ENDED: Final = "".join(WORKFLOW_CODE.values())
_GROUPS_OF_STATUS: Final = {
    OperatorStatus.NEEDS_REVIEW: _ALL,
    OperatorStatus.BLOCKED: OPEN_GROUP,
    OperatorStatus.WAITING: OPEN_GROUP,
    OperatorStatus.RUNNABLE: OPEN_GROUP,
    OperatorStatus.RESOLVED: _ENDED,
}
"""The groups of the listing that hold workflows of an operator status."""
_LATEST_MS: Final = 16**11 - 1

Member = TypeVar("Member", WorkflowState, OperatorStatus)


class WorkflowFilter(TypedDict, total=False):
    """Which workflows: those that all of these hold of; the parameters of ``Client.list``."""

    tags: Mapping[str, str]
    name: str
    state: WorkflowState | str
    status: OperatorStatus | str
    since: datetime
    until: datetime
    failed_step: str
    parent: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """A filter that was checked. ``tags`` are as they are stored; ``since`` and ``until`` (which is
    not part of it) bound when a workflow was inserted, in milliseconds."""

    tags: tuple[str, ...] = ()
    name: str | None = None
    state: WorkflowState | None = None
    status: OperatorStatus | None = None
    since: int | None = None
    until: int | None = None
    failed_step: str | None = None
    parent: str | None = None

    @classmethod
    def checked(cls, given: Mapping[str, Any], action: str) -> Filter:
        """Raises CommandRejected, ``invalid_argument``; None is as good as nothing."""
        known = {field.name for field in fields(cls)}
        if not isinstance(given, Mapping) or not known.issuperset(given):
            raise invalid(action, f"a filter has the keys {', '.join(sorted(known))}")
        state, status, step = given.get("state"), given.get("status"), given.get("failed_step")
        return cls(
            tags=_tags(given.get("tags"), action),
            name=checked_text(given.get("name"), "name", action),
            state=None if state is None else _member("state", state, WorkflowState, action),
            status=None if status is None else _member("status", status, OperatorStatus, action),
            since=_milliseconds("since", given.get("since"), action),
            until=_milliseconds("until", given.get("until"), action),
            failed_step=None if step is None else wire_name(step, action),
            parent=_parent(given.get("parent"), action),
        )

    def before(self, milliseconds: int) -> Filter:
        """The filter, and inserted before this time."""
        until = milliseconds if self.until is None else min(self.until, milliseconds)
        return replace(self, until=until)

    @property
    def groups(self) -> str:
        """The groups of the listing that can hold what it looks for."""
        found = _ALL if self.status is None else _GROUPS_OF_STATUS[self.status]
        if self.state is None:
            return found
        own = WORKFLOW_CODE[self.state] if self.state in TERMINAL_WORKFLOWS else OPEN_GROUP
        return own if own in found else ""

    @property
    def is_index(self) -> bool:
        """Whether one index lists just the workflows that the filter holds of, so that none has to
        be read."""
        if self.name or self.status or self.failed_step or self.parent:
            return False
        if self.tags:
            return len(self.tags) == 1 and self.state is None
        return self.state is None or self.state in TERMINAL_WORKFLOWS

    def places(
        self, behind: str | None, limit: int, index: int | None, *, oldest_first: bool
    ) -> ListPlaces:
        """The question for the next places that can hold what it looks for; ``index`` is the one
        that has answered it before."""
        since, until = _place(self.since), _place(self.until)
        return ListPlaces(self.groups, behind, limit, oldest_first, since, until, index, self.tags)

    def count(self) -> CountPlaces:
        """The question for how many there are, of a filter that ``is_index``."""
        tag = self.tags[0] if self.tags else None
        return CountPlaces(self.groups, _place(self.since), _place(self.until), tag)

    def find(self) -> FindWorkflows:
        """The question which of some workflows it may hold of."""
        troubled = self.status is OperatorStatus.NEEDS_REVIEW
        return FindWorkflows(
            self.groups, troubled, self.name, self.failed_step, self.parent, self.tags
        )

    def holds(self, view: WorkflowView, header: Header) -> OperatorStatus | None:
        """The operator status of a workflow that is shown; None when its state or its status is not
        meant, which only the whole header tells."""
        status = workflow_status(view, review=header.needs_review)
        if self.state in (None, view.state) and self.status in (None, status):
            return status
        return None


def _parent(workflow_id: Any, action: str) -> str | None:
    if workflow_id is None:
        return None
    if not isinstance(workflow_id, str) or partition_of(workflow_id) is None:
        raise invalid(action, f"parent must be a workflow id: {shown(workflow_id)}")
    return workflow_id


def _place(milliseconds: int | None) -> str | None:
    """A time of insertion as places begin with it."""
    return None if milliseconds is None else f"{milliseconds:011x}"


def _tags(tags: Any, action: str) -> tuple[str, ...]:
    try:
        return () if tags is None else tuple(stored_tag(*tag) for tag in checked_tags(tags))
    except WorkflowInvalid as error:
        raise invalid(action, error.message) from None


def _member(name: str, value: Any, kind: type[Member], action: str) -> Member:
    if not isinstance(value, str) or value not in set(kind):
        raise invalid(action, f"{name} must be one of {', '.join(kind)}")
    return kind(value)


def _milliseconds(name: str, value: Any, action: str) -> int | None:
    """A time as it is compared with those of inserts: the next full millisecond."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise invalid(action, f"{name} must be a datetime with a timezone")
    return min(max(-((EPOCH - value) // timedelta(milliseconds=1)), 0), _LATEST_MS)
