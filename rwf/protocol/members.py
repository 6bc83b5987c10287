"""Members of the sorted sets, as Lua writes them. A member is the name of something and carries
nothing else, so it has no fields to grow by (``docs/architecture.md``)."""

from __future__ import annotations

from typing import Final, NamedTuple

# The time when a step came in is a part of its entry's order: round, microseconds, number.
_CAME_IN: Final = slice(10, 23)


class QueueEntry(NamedTuple):
    """A member of ``ready`` and ``reserved``, ``queue:urgency|order|workflow|step``.

    ``place`` is what stands before the workflow: queue, urgency and order.
    """

    place: str
    workflow_id: str
    step: str

    @classmethod
    def parse(cls, member: bytes) -> QueueEntry:
        return cls(*member.decode().rsplit("|", 2))

    @property
    def queue(self) -> str:
        return self.place.partition(":")[0]

    @property
    def rank(self) -> str:
        """The part that orders entries of different queues."""
        return f"{self.place.partition(':')[2]}|{self.workflow_id}|{self.step}"

    @property
    def came_in_us(self) -> int:
        """When its step became available, in microseconds since the epoch."""
        return came_in_us(self.place.partition("|")[2])


def came_in_us(order: str) -> int:
    """When a step came into its queue, by its order there, in microseconds since the epoch."""
    return int(order[_CAME_IN], 16)


class Timer(NamedTuple):
    """A member of ``timers``, ``kind|owner`` or ``kind|workflow|step``; the owner is a workflow or
    a topic's digest."""

    kind: str
    owner: str
    step: str = ""

    @classmethod
    def parse(cls, member: bytes) -> Timer:
        """The parts of a member; fewer where its text is not one of rwf's."""
        kind, _, rest = member.decode(errors="replace").partition("|")
        owner, _, step = rest.partition("|")
        return cls(kind, owner, step)
