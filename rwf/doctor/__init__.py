"""Preparing a server, and finding what is wrong with one: ``migrate`` and ``doctor``.

The doctor only reads. It reports what a client would refuse to run on, what its user lacks the
right to, and what has been waiting for too long, and says what to do about each; it raises only
when no server answers.
"""

from __future__ import annotations

from typing import Final

from rwf.doctor.rights import library_check, rights_check
from rwf.doctor.server import server_checks
from rwf.doctor.work import namespace_check, work_checks
from rwf.model.views import Check, DoctorReport, MigrationReport
from rwf.transport.actions import Steps
from rwf.transport.session import Session

_DECISIVE: Final = frozenset({"server", "version", "cluster"})


def migrate(session: Session) -> Steps[MigrationReport]:
    """Loads the library where it is missing and creates the namespace where it does not exist.

    Raises what connecting raises.
    """
    yield from session.check()
    loaded = yield from session.load()
    yield from session.open()
    return MigrationReport(
        library=session.library.name,
        loaded=loaded,
        namespace=session.keys.namespace,
        partitions=session.keys.partitions,
    )


def doctor(session: Session) -> Steps[DoctorReport]:
    """All checks, in the order in which they are worth reading.

    Raises StoreUnavailable when no server answers, StoreMisconfigured when it refuses the login.
    """
    checks: list[Check] = []
    unreachable: tuple[int, ...] = ()
    if session.checked:
        checks += yield from server_checks(session)
    # On a server too old for functions, or on one node of several, the rest has no answer.
    if not any(check.status == "failed" and check.name in _DECISIVE for check in checks):
        own, unreachable = yield from _own(session)
        checks += own
    healthy = not any(check.status == "failed" for check in checks)
    return DoctorReport(healthy=healthy, checks=tuple(checks), unreachable=unreachable)


def _own(session: Session) -> Steps[tuple[list[Check], tuple[int, ...]]]:
    """Findings on rwf itself: its library, what its user may do, its namespace and its work; and
    the partitions that do not answer."""
    checks = [(yield from library_check(session))]
    loaded = checks[0].status == "ok"
    if session.checked:
        checks.append((yield from rights_check(session)))
    namespace, exists = yield from namespace_check(session)
    checks.append(namespace)
    if not (loaded and exists):
        return checks, ()
    work, unreachable = yield from work_checks(session)
    return [*checks, *work], unreachable
