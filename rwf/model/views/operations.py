"""Reports of operations on a namespace, and of repairs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from rwf.model.views.base import View


class PruneReport(View):
    """How many were removed: workflows whose retention has ended, and signals that no workflow
    consumed in time. ``unreachable`` are the partitions that did not answer."""

    workflows: int
    signals: int
    unreachable: tuple[int, ...] = ()


class Repair(View):
    """One difference between stored state and what the records imply, which was corrected."""

    kind: str
    step: str | None
    details: dict[str, Any]


class ReconcileReport(View):
    """The repairs that ``reconcile`` made; empty on a healthy workflow."""

    workflow_id: str
    repairs: tuple[Repair, ...]


class RebuildProgress(View):
    """How far a rebuild is; ``repairs`` is how many there were so far."""

    stage: Literal["workflows", "topics", "orphans"]
    workflows: int
    topics: int
    repairs: int


class RebuildFailure(View):
    """A workflow or a topic that could not be restored, and why."""

    id: str
    message: str


class GaugeDifference(View):
    """A gauge of a partition that its workflows do not add up to, such as ``gs|available``."""

    partition: int
    gauge: str
    stored: int
    expected: int


class RebuildReport(View):
    """The extent of a ``rebuild``, and the repairs it made.

    ``repairs`` says how many of each kind. ``failures`` holds at most 1,000, beside their exact
    count. ``gauges`` are those that were wrong and were corrected; that is possible only while
    nothing happens in their partition.
    """

    workflows: int
    topics: int
    repairs: dict[str, int]
    failures: tuple[RebuildFailure, ...]
    failure_count: int
    gauges: tuple[GaugeDifference, ...]


class MigrationReport(View):
    """The result of ``migrate``; ``loaded`` when the library was missing on some primary."""

    library: str
    loaded: bool
    namespace: str
    partitions: int


class Check(View):
    """One thing that the doctor looked at; ``advice`` says what to do unless it is ok."""

    name: str
    status: Literal["ok", "warning", "failed"]
    found: str
    advice: str | None


class DoctorReport(View):
    """All checks; ``healthy`` when none has failed. ``unreachable`` are the partitions that did not
    answer."""

    healthy: bool
    checks: tuple[Check, ...]
    unreachable: tuple[int, ...] = ()


class BulkRefusal(View):
    """A workflow on which a bulk session's command was refused, and why."""

    workflow_id: str
    step: str | None
    reason_code: str
    message: str


class BulkSession(View):
    """One command on many workflows.

    ``action`` is ``retry``, ``skip``, ``cancel`` or, of whole workflows, ``request_cancel``.
    ``selected``: how many workflows were selected so far. ``counts``: how many have had each
    outcome: ``changed``, ``unchanged``, ``unreadable``, or the reason code of a refusal, of which
    the first 1,000 are in ``refusals``. A dry run has no ``id``.
    """

    id: str | None
    action: str
    filter: dict[str, Any]
    step: str | None
    scope: str | None
    actor: str
    reason: str
    created_at: datetime | None
    finished_at: datetime | None
    stopped_by: str | None
    stopped_reason: str | None
    selected: int
    counts: dict[str, int]
    refusals: tuple[BulkRefusal, ...]
    dry_run: bool = False
