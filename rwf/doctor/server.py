"""The server itself: what it is, how safe and how full it is, and what stands beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Final

import redis.exceptions as errors

from rwf.doctor.findings import (
    Info,
    Replies,
    ask,
    duration,
    failed,
    ok,
    unreadable,
    warning,
    worst,
)
from rwf.model.views import Check
from rwf.transport.actions import Steps
from rwf.transport.servers import is_too_old, server_version
from rwf.transport.session import Session

_SLOTS: Final = 16384
_MAX_CLOCK_OFFSET: Final = 5.0
"""Seconds. Only the server's clock decides anything, but people compare its times with theirs."""
_LITTLE_HEADROOM: Final = 0.9
"""The share of the memory from which on the doctor warns."""
_MAX_LAG: Final = 10
"""Seconds that a replica may be silent; it reports once a second."""


def server_checks(session: Session) -> Steps[list[Check]]:
    """Each check of all primaries, as found on the worst one."""
    started = time.time()
    times, away = yield from _times(session)
    seconds = time.time() - started
    infos = yield from ask(session, "INFO")
    if isinstance(infos, errors.ResponseError):
        return [unreadable("server", "INFO", infos)]
    count = f"{len(infos)} primaries" if session.cluster else "the server"
    settings = yield from ask(session, "CONFIG GET", "appendfsync")
    parts: list[Callable[[str, Info], Check]] = [
        lambda _, info: _version(info),
        lambda node, info: _persistence(info, _setting(settings, node), session.require_aof),
        lambda _, info: _eviction(info),
        lambda _, info: _memory(info),
        lambda _, info: _role(info),
        lambda _, info: _replication(info),
    ]
    checks = [_reachable(f"{count} answered in {seconds * 1000:.1f} ms", away)]
    checks += [worst([(node, part(node, info)) for node, info in infos.items()]) for part in parts]
    checks.append((yield from _cluster(session, infos)))
    if not isinstance(times, errors.ResponseError):
        checks.append(_clock(times, started + seconds / 2))
    return checks


def _times(session: Session) -> Steps[tuple[Replies | errors.ResponseError, Collection[str]]]:
    """The time of each primary's clock, and the names of those that do not answer."""
    try:
        return (yield from session.everywhere(("TIME",)))
    except errors.ResponseError as error:
        return error, ()


def _reachable(answered: str, away: Collection[str]) -> Check:
    if not away:
        return ok("reachable", answered)
    found = f"{answered}, and {', '.join(sorted(away))} did not"
    return failed("reachable", found, "the other partitions are served; bring those nodes back")


def _version(info: Info) -> Check:
    name, version = server_version(info)
    found = f"{name} {'.'.join(map(str, version))}"
    if is_too_old(name, version):
        advice = "rwf needs Redis 7.0 or newer, or Valkey 8.0 or newer"
        return failed("version", found, advice)
    return ok("version", found)


def _setting(settings: Replies | errors.ResponseError, node: str) -> str | None:
    # Managed servers often refuse CONFIG; the rest is worth knowing all the same.
    if isinstance(settings, errors.ResponseError):
        return None
    value: str | None = settings.get(node, {}).get("appendfsync")
    return value


def _persistence(info: Info, appendfsync: str | None, required: bool) -> Check:
    name = "persistence"
    if not int(info.get("aof_enabled", 0)):
        advice = "a restart loses workflows: set appendonly yes"
        found = "no append-only file"
        return failed(name, found, advice) if required else warning(name, found, advice)
    if info.get("aof_last_write_status", "ok") != "ok":
        advice = "the server could not write its append-only file: look at its disk and log"
        return failed(name, "append-only file, last write failed", advice)
    found = "append-only file" + (f", appendfsync {appendfsync}" if appendfsync else "")
    if appendfsync == "no":
        advice = "a power loss may cost half a minute: set appendfsync everysec or always"
        return warning(name, found, advice)
    return ok(name, found)


def _eviction(info: Info) -> Check:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice = "the server would drop records when memory is short: set it to noeviction"
        return failed("eviction", f"maxmemory-policy {policy}", advice)
    return ok("eviction", f"maxmemory-policy {policy}")


def _memory(info: Info) -> Check:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit:
        return _unlimited(used, int(info.get("total_system_memory", 0)))
    found = f"{_megabytes(used)} used of maxmemory {_megabytes(limit)}"
    if used >= limit:
        return failed("memory", found, "the server refuses writes: raise maxmemory")
    if used >= limit * _LITTLE_HEADROOM:
        return warning("memory", found, "writes are refused at maxmemory: raise it")
    return ok("memory", found)


def _unlimited(used: int, machine: int) -> Check:
    """Without a limit of its own the server takes what the machine has, and is then killed."""
    found = f"{_megabytes(used)} used, no maxmemory"
    if machine:
        found += f"; the machine has {_megabytes(machine)}"
    if machine and used >= machine * _LITTLE_HEADROOM:
        return warning("memory", found, "set maxmemory: better refused writes than a dead server")
    return ok("memory", found)


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


def _role(info: Info) -> Check:
    if info.get("role", "master") != "master":
        return failed("role", "replica", "a replica is read-only: connect to its primary")
    return ok("role", "primary")


def _replication(info: Info) -> Check:
    name = "replication"
    # Each as redis-py reads "ip=127.0.0.1,port=6380,state=online,offset=14,lag=0".
    replicas: list[Any] = [
        info[f"slave{number}"] for number in range(int(info.get("connected_slaves", 0)))
    ]
    if not replicas:
        return ok(name, "no replica")
    written = int(info.get("master_repl_offset", 0))
    behind = max(written - int(replica.get("offset", 0)) for replica in replicas)
    lag = max(int(replica.get("lag", 0)) for replica in replicas)
    count = f"{len(replicas)} replica{'' if len(replicas) == 1 else 's'}"
    found = f"{count}, at most {_megabytes(behind)} behind, heard {duration(lag)} ago"
    if any(replica.get("state") != "online" for replica in replicas):
        advice = "a failover now would lose much: wait until it is online, or look at its log"
        return warning(name, f"{found}; not all are online", advice)
    if lag > _MAX_LAG:
        return warning(name, found, "a failover would lose writes that it lacks: look at its log")
    return ok(name, found)


def _cluster(session: Session, infos: Replies) -> Steps[Check]:
    if not any(int(info.get("cluster_enabled", 0)) for info in infos.values()):
        return ok("cluster", "not a cluster")
    if not session.cluster:
        advice = "connect with redis+cluster://host:port"
        return failed("cluster", "one node of a cluster, without the others", advice)
    states = yield from ask(session, "CLUSTER INFO")
    if isinstance(states, errors.ResponseError):
        return unreadable("cluster", "CLUSTER INFO", states)
    return worst([(node, _cluster_state(state)) for node, state in states.items()])


def _cluster_state(state: Info) -> Check:
    slots = int(state.get("cluster_slots_ok", 0))
    found = f"state {state.get('cluster_state')}, {slots} of {_SLOTS} slots served"
    if state.get("cluster_state") != "ok":
        return failed("cluster", found, "some slots have no primary: look at CLUSTER NODES")
    return ok("cluster", found)


def _clock(times: Replies, ours: float) -> Check:
    offsets = [int(time[0]) + int(time[1]) / 1e6 - ours for time in times.values()]
    widest = max(offsets, key=abs)
    side = "ahead of" if widest > 0 else "behind"
    found = f"the server's clock is {abs(widest):.1f} s {side} this machine's"
    if abs(widest) > _MAX_CLOCK_OFFSET:
        return warning("clock", found, "rwf goes by the server's clock alone; set both by NTP")
    return ok("clock", found)
