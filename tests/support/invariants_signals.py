"""Invariants of waits and topics, at any moment between two server calls.

The record of a wait belongs to its workflow, that of a topic to its home partition; wait notices,
sorted sets and timers are derived. A topic may lag behind a workflow only while a notice says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rwf.model.limits import SIGNAL_KEPT_MS
from rwf.model.states import StepState, WaitStatus
from rwf.protocol.headers import Header
from rwf.protocol.keys import topic_digest
from rwf.protocol.records import Record
from rwf.protocol.stored import KnownRecord, TopicRecord
from rwf.protocol.waits import Wait

_OFFSET = 10**15
"""Topics that are to be notified have a wait notice, scored by its time less this."""


@dataclass
class Topic:
    """A topic's two keys, as read."""

    own: Mapping[str, str]
    registered: frozenset[str]
    known: dict[str, tuple[str, str]] = field(init=False)
    """Each registered wait, "workflow|step": its number and its state."""

    def __post_init__(self) -> None:
        self.known = {}
        for name, text in self.own.items():
            if name[0] == "l":
                known = KnownRecord.of(text)
                self.known[name[1:]] = (str(known.n), known.state)

    def problems(self) -> Iterator[str]:
        """Breaches within the topic alone."""
        if ":" not in self.own:
            yield "waits or signals without a record of the topic"
            return
        record = TopicRecord.of(self.own[":"])
        first, last = record.first, record.last
        kept = {int(name[1:]) for name, text in self.own.items() if _is_kept(name, text)}
        if not kept <= set(range(first, last + 1)):
            yield f"keeps {sorted(kept)}, bounds {first} to {last}"
        yield from self._of_signals()
        expected = set()
        for name, text in self.own.items():
            if name[0] == "l":
                workflow_id, step = name[1:].split("|")
                known = KnownRecord.of(text)
                if known.state in ("w", "x"):
                    place = f"{workflow_id}|{known.stamp}|{step}|{known.n}"
                    expected.add(f"{known.state}|{place}")
        if expected != self.registered:
            yield f"registered {sorted(self.registered)[:3]}, expected {sorted(expected)[:3]}"

    def _of_signals(self) -> Iterator[str]:
        numbers = {name[1:] for name in self.own if name[0] == "s"}
        dedupes = {name[1:]: number for name, number in self.own.items() if name[0] == "d"}
        expected = {self.own[f"s{number}"].partition("|")[2]: number for number in numbers}
        if dedupes != expected:
            yield f"dedupe records {sorted(dedupes.items())[:3]}, not {sorted(expected)[:3]}"
        if not {name[1:] for name in self.own if name[0] == "p"} <= numbers:
            yield "payloads without a signal"
        if len(self.own) == 1:
            yield "it holds nothing"

    @property
    def workflows(self) -> set[str]:
        """The workflows in its records: those that waited, or have consumed a signal."""
        waited = {name.partition("|")[0] for name in self.known}
        consumed = {
            text.split(",")[3]
            for name, text in self.own.items()
            if name[0] == "s" and text[0] == "c"
        }
        return waited | consumed

    @property
    def due(self) -> int | None:
        """When the oldest kept signal is to be dropped, in milliseconds."""
        kept = [text.split(",")[1] for name, text in self.own.items() if _is_kept(name, text)]
        return int(min(kept)[:-7]) + SIGNAL_KEPT_MS if kept else None

    @property
    def handed(self) -> bool:
        """Whether a hand-off is outstanding."""
        return self.own.get(":", ",,,").split(",")[3] != ""


def _is_kept(name: str, text: str) -> bool:
    return name[0] == "s" and text[0] == "k"


@dataclass
class Waits:
    """A workflow's latest waits, and its wait notices."""

    workflow_id: str
    waits: Mapping[str, Wait]
    notices: Mapping[str, int]
    has_news: bool
    """Whether it is a child that has something to ask or to tell its parent."""

    def problems(self, records: Mapping[str, Record]) -> Iterator[str]:
        """Breaches between waits, records and notices."""
        for step, record in records.items():
            wait = self.waits.get(step)
            waiting = wait is not None and wait.status == "w"
            expired = wait is not None and wait.status == "x"
            if waiting != (record.state is StepState.AWAITING_SIGNAL):
                yield f"{step} is {record.state}, its wait {wait}"
            if expired != (record.state is StepState.EXPIRED):
                yield f"{step} is {record.state}, its wait {wait}"
        expected = dict(self._expected())
        if set(expected) != set(self.notices):
            yield f"notices {sorted(self.notices)[:3]}, expected {sorted(expected)[:3]}"
        for member, score in expected.items():
            if score is not None and self.notices.get(member) != score:
                yield f"notices has {member} at {self.notices.get(member)}, not at {score}"

    def _expected(self) -> Iterator[tuple[str, int | None]]:
        for step, wait in self.waits.items():
            if wait.status == "w" and wait.deadline is not None:
                yield step, -(-wait.deadline // 1000)
            if wait.unacked or wait.left:
                yield f"!{step}", None
        if self.has_news:
            yield "!^", None

    @property
    def due(self) -> int | None:
        """The time of the workflow's timer."""
        times = [score if score >= 0 else score + _OFFSET for score in self.notices.values()]
        return min(times, default=None)

    def unknown_to(self, topics: Mapping[str, Topic]) -> Iterator[str]:
        """Breaches between the waits that count as acked by their topics and the topics'
        records."""
        for step, wait in self.waits.items():
            if wait.child is not None:
                continue
            topic = topics.get(topic_digest(wait.signal, wait.key))
            if wait.unacked or WaitStatus(wait.view("", "").status) is not WaitStatus.WAITING:
                continue
            known = topic and topic.known.get(f"{self.workflow_id}|{step}")
            if known != (str(wait.n), "w"):
                yield f"{self.workflow_id}: {step} waits, its topic knows of {known}"


@dataclass
class Child:
    """A child workflow: its header, and what its parent's records say of it."""

    workflow_id: str
    header: Header

    def problems(self, waits: Mapping[str, Mapping[str, Wait]]) -> Iterator[str]:
        """Breaches between its link and the wait of its parent's step, by workflow and step."""
        link = self.header.link
        assert link is not None
        wait = waits.get(link.workflow, {}).get(link.step)
        if wait is None or wait.child != self.workflow_id:
            return
        if link.state in ("r", "f") and wait.status != link.state and wait.n == link.n:
            yield f"{self.workflow_id}: {link.text()}, and its parent's wait is {wait.status}"
        told = wait.acked == "w" and wait.status == "w"
        if told and (link.state == "h" or link.n != wait.n):
            yield f"{self.workflow_id}: its parent waits for it, {link.text()}"
        if told and self.header.finished is not None and not self.header.has_news:
            yield f"{self.workflow_id}: has ended, and its parent waits for it, {link.text()}"
