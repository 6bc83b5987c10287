"""What is due: retries, leases, waits, walks and hand-offs, found in the timers and carried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, NamedTuple

from rwf.store.catalog import Arg, Call
from rwf.store.keys import is_digest, partition_of
from rwf.store.ops.advance import advance_all
from rwf.store.ops.base import Op, Scope, passing_over
from rwf.store.ops.waits import finish_hand_off, settle_waits

_TIMERS_PER_CALL: Final = 100
# Those that ``fire.lua`` carries out: of a step, and of a workflow as a whole.
_OF_STEP: Final = frozenset("rl")
_OF_WORKFLOW: Final = frozenset("wu")


@dataclass(slots=True)
class PassedOver:
    """The timers in front of a partition's others that could not be carried out."""

    count: int = 0
    last: bytes = b""


class Fired(NamedTuple):
    """How many timers were carried out, and the seconds until the next is due, None without one."""

    done: int
    next_in: float | None


class _Page(NamedTuple):
    members: Sequence[bytes]
    next_in: float | None


def fire_due(scope: Scope, partition: int, passed: PassedOver) -> Op[Fired]:
    """Carries out what is due in a partition, up to a page of it; one call when that is nothing.

    What cannot be carried out stays, and stands in ``passed`` from then on: it holds up nothing
    that comes behind it. Whoever wants it tried again begins with an empty one.
    """
    page = yield from _due(scope, partition, passed)
    if not page.members:
        return Fired(0, page.next_in)
    topics, workflows = _by_owner(scope, partition, page.members)
    for digest in topics:
        yield from passing_over(finish_hand_off(scope, digest), f"topic {digest}")
    for workflow_id, timers in workflows.items():
        yield from passing_over(_fire(scope, workflow_id, timers), f"workflow {workflow_id}")
    left = yield from _due(scope, partition, passed)
    stuck = list(takewhile(set(page.members).__contains__, left.members))
    if stuck:
        passed.count, passed.last = passed.count + len(stuck), stuck[-1]
    more = len(page.members) == _TIMERS_PER_CALL or len(left.members) > len(stuck)
    return Fired(len(page.members) - len(stuck), 0.0 if more else left.next_in)


def _due(scope: Scope, partition: int, passed: PassedOver) -> Op[_Page]:
    args: list[Arg] = [_TIMERS_PER_CALL, passed.count, passed.last]
    left_out, next_ms, *members = yield Call("timers", scope.keys.partition(partition), args)
    passed.count = int(left_out)
    return _Page(members, int(next_ms) / 1000 if next_ms else None)


def _by_owner(
    scope: Scope, partition: int, members: Sequence[bytes]
) -> tuple[list[str], dict[str, list[Arg]]]:
    """The topics, and the workflows with what ``fire`` takes; what names neither is left out."""
    topics: list[str] = []
    workflows: dict[str, list[Arg]] = {}
    for kind, owner, *step in _taken_apart(members):
        if kind == "s" and not step and is_digest(owner, partition, scope.keys.homes):
            topics.append(owner)
        elif partition_of(owner) == partition and (
            (kind in _OF_STEP and len(step) == 1) or (kind in _OF_WORKFLOW and not step)
        ):
            workflows.setdefault(owner, []).extend([kind, *(step or [""])])
    return topics, workflows


def _taken_apart(members: Sequence[bytes]) -> Iterator[list[str]]:
    for member in members:
        parts = member.decode(errors="replace").split("|")
        if len(parts) > 1:
            yield parts


def _fire(scope: Scope, workflow_id: str, timers: list[Arg]) -> Op[None]:
    unfinished, untold = yield scope.on_workflow("fire", workflow_id, timers)
    if unfinished:
        yield from advance_all(scope, workflow_id)
    elif untold:
        yield from settle_waits(scope, workflow_id)
