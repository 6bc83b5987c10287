"""Bulk sessions: one command on many workflows, how far it has come, and who has refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from starlette.responses import Response

from rwf.console.bulk_actions import meant
from rwf.console.visit import Visit
from rwf.model.states import OperatorStatus
from rwf.model.views import BulkRefusal, BulkSession

_SHOWN: Final = 20
"""Workflows of a reason."""
_FINE: Final = frozenset({"changed", "unchanged"})


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as pages show it. ``failed``: how many workflows have another outcome than they
    should."""

    session: BulkSession
    status: OperatorStatus
    standing: str
    failed: int
    meant: str

    @classmethod
    def of(cls, session: BulkSession) -> Listed:
        failed = sum(count for name, count in session.counts.items() if name not in _FINE)
        running = session.finished_at is None
        standing = "running" if running else "stopped" if session.stopped_by else "done"
        status = OperatorStatus.RUNNABLE if running else OperatorStatus.RESOLVED
        return cls(
            session,
            OperatorStatus.NEEDS_REVIEW if failed else status,
            standing,
            failed,
            meant(session.filter),
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Refusals for one reason, of which the first are shown."""

    reason: str
    count: int
    shown: Sequence[BulkRefusal]


async def sessions(visit: Visit) -> Response:
    """The latest sessions, those that run first."""
    found = await visit.console.shared.get("bulk", 2, visit.client.bulks)
    return visit.page("sessions.html", live="", sessions=[Listed.of(one) for one in found])


async def session(visit: Visit) -> Response:
    """One session, with the workflows that have refused, by their reasons."""
    found = await visit.client.bulk(visit.request.path_params["id"])
    listed = Listed.of(found)
    return visit.page("session.html", live="", one=listed, groups=_groups(found), fine=_FINE)


def _groups(session: BulkSession) -> list[Group]:
    """The most frequent reason first."""
    ordered = sorted(session.refusals, key=lambda one: one.reason_code)
    groups = []
    for reason, some in groupby(ordered, key=lambda one: one.reason_code):
        refusals = list(some)
        count = max(session.counts.get(reason, 0), len(refusals))
        groups.append(Group(reason, count, refusals[:_SHOWN]))
    return sorted(groups, key=lambda one: -one.count)
