"""Preparing a server, and telling what is wrong with one: ``migrate`` and ``doctor``.

The doctor only reads. It reports what a client would refuse to run on, and says what to do about
it; it raises only when no server answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import redis.exceptions as errors

from rwf.model.views import Check, DoctorReport, MigrationReport
from rwf.store.session import Send, Session, Steps, is_too_old, server_version

Info = Mapping[str, Any]
Replies = Mapping[str, Any]
Status = Literal["ok", "warning", "failed"]

_SEVERITY: Final[tuple[Status, ...]] = ("ok", "warning", "failed")
_DECISIVE: Final = frozenset({"server", "version", "cluster"})
_SLOTS: Final = 16384
_MAX_CLOCK_OFFSET: Final = 5.0
"""Seconds. Only the server's clock decides anything, but people compare its times with theirs."""
_LITTLE_HEADROOM: Final = 0.9
"""The share of maxmemory from which on the doctor warns."""


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
    checks = []
    if session.checked:
        checks += yield from _server(session)
    # On a server too old for functions, or on one node of several, the rest has no answer.
    if not any(check.status == "failed" and check.name in _DECISIVE for check in checks):
        checks.append((yield from _library(session)))
        checks.append((yield from _namespace(session)))
    healthy = not any(check.status == "failed" for check in checks)
    return DoctorReport(healthy=healthy, checks=tuple(checks))


def _ask(session: Session, *args: str) -> Steps[Replies | errors.ResponseError]:
    """Every primary's reply by its name, or the refusal: the user may lack the right."""
    try:
        replies: Replies = yield from session.patiently(Send(args))
    except errors.ResponseError as error:
        return error
    return replies


def _server(session: Session) -> Steps[list[Check]]:
    started = time.time()
    times = yield from _ask(session, "TIME")
    seconds = time.time() - started
    infos = yield from _ask(session, "INFO")
    if isinstance(infos, errors.ResponseError):
        return [_unreadable("server", "INFO", infos)]
    count = f"{len(infos)} primaries" if session.cluster else "the server"
    settings = yield from _ask(session, "CONFIG GET", "appendfsync")
    parts: list[Callable[[str, Info], Check]] = [
        lambda _, info: _version(info),
        lambda node, info: _persistence(info, _setting(settings, node), session.require_aof),
        lambda _, info: _eviction(info),
        lambda _, info: _memory(info),
        lambda _, info: _role(info),
    ]
    checks = [_ok("reachable", f"{count} answered in {seconds * 1000:.1f} ms")]
    checks += [_worst([(node, part(node, info)) for node, info in infos.items()]) for part in parts]
    checks.append((yield from _cluster(session, infos)))
    if not isinstance(times, errors.ResponseError):
        checks.append(_clock(times, started + seconds / 2))
    return checks


def _version(info: Info) -> Check:
    name, version = server_version(info)
    found = f"{name} {'.'.join(map(str, version))}"
    if is_too_old(name, version):
        advice = "rwf needs Redis 7.0 or newer, or Valkey 8.0 or newer"
        return _failed("version", found, advice)
    return _ok("version", found)


def _setting(settings: Replies | errors.ResponseError, node: str) -> str | None:
    # Managed servers often refuse CONFIG; the rest is worth knowing all the same.
    if isinstance(settings, errors.ResponseError):
        return None
    value: str | None = settings[node].get("appendfsync")
    return value


def _persistence(info: Info, appendfsync: str | None, required: bool) -> Check:
    name = "persistence"
    if not int(info.get("aof_enabled", 0)):
        advice = "a restart loses workflows: set appendonly yes"
        found = "no append-only file"
        return _failed(name, found, advice) if required else _warning(name, found, advice)
    if info.get("aof_last_write_status", "ok") != "ok":
        advice = "the server could not write its append-only file: look at its disk and log"
        return _failed(name, "append-only file, last write failed", advice)
    found = "append-only file" + (f", appendfsync {appendfsync}" if appendfsync else "")
    if appendfsync == "no":
        advice = "a power loss may cost half a minute: set appendfsync everysec or always"
        return _warning(name, found, advice)
    return _ok(name, found)


def _eviction(info: Info) -> Check:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice = "the server would drop records when memory is short: set it to noeviction"
        return _failed("eviction", f"maxmemory-policy {policy}", advice)
    return _ok("eviction", f"maxmemory-policy {policy}")


def _memory(info: Info) -> Check:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit:
        return _ok("memory", f"{_megabytes(used)} used, no maxmemory")
    found = f"{_megabytes(used)} used of maxmemory {_megabytes(limit)}"
    if used >= limit:
        return _failed("memory", found, "the server refuses writes: raise maxmemory")
    if used >= limit * _LITTLE_HEADROOM:
        return _warning("memory", found, "writes are refused at maxmemory: raise it")
    return _ok("memory", found)


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def _role(info: Info) -> Check:
    role = info.get("role", "master")
    if role != "master":
        return _failed("role", "replica", "a replica is read-only: connect to its primary")
    replicas = int(info.get("connected_slaves", 0))
    return _ok("role", f"primary with {replicas} replica{'' if replicas == 1 else 's'}")


def _cluster(session: Session, infos: Replies) -> Steps[Check]:
    if not any(int(info.get("cluster_enabled", 0)) for info in infos.values()):
        return _ok("cluster", "not a cluster")
    if not session.cluster:
        advice = "connect with redis+cluster://host:port"
        return _failed("cluster", "a node of a cluster, connected to alone", advice)
    states = yield from _ask(session, "CLUSTER INFO")
    if isinstance(states, errors.ResponseError):
        return _unreadable("cluster", "CLUSTER INFO", states)
    return _worst([(node, _cluster_state(state)) for node, state in states.items()])


def _cluster_state(state: Info) -> Check:
    slots = int(state.get("cluster_slots_ok", 0))
    found = f"state {state.get('cluster_state')}, {slots} of {_SLOTS} slots served"
    if state.get("cluster_state") != "ok":
        return _failed("cluster", found, "some slots have no primary: look at CLUSTER NODES")
    return _ok("cluster", found)


def _clock(times: Replies, ours: float) -> Check:
    offsets = [int(time[0]) + int(time[1]) / 1e6 - ours for time in times.values()]
    widest = max(offsets, key=abs)
    found = (
        f"the server's clock is {abs(widest):.1f} s {'ahead of' if widest > 0 else 'behind'} ours"
    )
    if abs(widest) > _MAX_CLOCK_OFFSET:
        return _warning("clock", found, "rwf goes by the server's clock alone; set both by NTP")
    return _ok("clock", found)


def _library(session: Session) -> Steps[Check]:
    name = session.library.name
    listed = yield from _ask(session, "FUNCTION", "LIST", "LIBRARYNAME", name)
    if isinstance(listed, errors.ResponseError):
        return _unreadable("library", "FUNCTION LIST", listed)
    missing = [node for node, found in listed.items() if not found]
    if not missing:
        return _ok("library", f"{name} is loaded")
    where = f" on {', '.join(missing)}" if session.cluster else ""
    return _warning("library", f"{name} is not loaded{where}", "run `rwf migrate`")


def _namespace(session: Session) -> Steps[Check]:
    # Read as it is: asking for it by its function would create it.
    namespace, wanted, key = session.keys.namespace, session.wanted_partitions, session.keys.meta()
    try:
        stored = yield from session.patiently(Send(("HGET", key, "partitions"), key))
    except errors.ResponseError as error:
        return _unreadable("namespace", "the namespace's record", error)
    if stored is None:
        return _ok("namespace", f"{namespace} does not exist yet; the first use creates it")
    found = f"{namespace} with {int(stored)} partition{'' if int(stored) == 1 else 's'}"
    if wanted not in (None, int(stored)):
        advice = f"this client was opened with {wanted} partitions: open it with {int(stored)}"
        return _failed("namespace", found, advice)
    return _ok("namespace", found)


def _ok(name: str, found: str) -> Check:
    return Check(name=name, status="ok", found=found, advice=None)


def _warning(name: str, found: str, advice: str) -> Check:
    return Check(name=name, status="warning", found=found, advice=advice)


def _failed(name: str, found: str, advice: str) -> Check:
    return Check(name=name, status="failed", found=found, advice=advice)


def _unreadable(name: str, what: str, error: errors.ResponseError) -> Check:
    if isinstance(error, errors.NoPermissionError):
        return _warning(name, f"this user may not read {what}", "run the doctor as one who may")
    return _failed(name, f"{what} failed: {error}", "look at the server's log")


def _worst(checks: Iterable[tuple[str, Check]]) -> Check:
    """The gravest of the nodes' checks, with the node's name where there are several."""
    node, worst = max(checks, key=lambda pair: _SEVERITY.index(pair[1].status))
    if not node or worst.status == "ok":
        return worst
    return worst.model_copy(update={"found": f"{node}: {worst.found}"})
