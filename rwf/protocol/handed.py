"""A claim as the server returns it (``dispatch.lua``), and the parts of its input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rwf.errors import RecordUnreadable
from rwf.model.payload import decode
from rwf.model.result_refs import fill, references
from rwf.model.views import ClaimedStep, WakingSignal
from rwf.protocol.codecs import UNREADABLE, reading, time_of, value_of
from rwf.protocol.functions.claims import StartedStep
from rwf.protocol.records import lease_of, max_attempts_of, queue_of, timeout_of
from rwf.protocol.stored import ClaimRecord, StepRecord
from rwf.protocol.waits import Wait

_VALUE, _NULL = b"v", b"n"
_OWN = "p"
_RESULTS = "r"
_UNTOLD = "!"

Key = tuple[str, str]


@dataclass(slots=True)
class HeldStep:
    """The part of a step's record that its claim needs; ``expires`` in ms since the insert."""

    worker: str
    queue: str
    attempt: int
    max_attempts: int
    lease: str
    expires: int
    timeout: float | None

    @classmethod
    def parse(cls, step: str, record: bytes) -> HeldStep:
        """Reads these fields alone: to take the whole record apart costs twice as much."""
        attempt, max_, claim, class_, options, handler = StepRecord.held_of(record)
        token, expires = ClaimRecord.lease_of(claim)
        number = int(attempt)
        return cls(
            handler.decode() or step,
            queue_of(class_.decode()),
            number,
            max_attempts_of(max_.decode()),
            lease_of(number, token.decode()),
            int(expires),
            timeout_of(options.decode()),
        )


@dataclass(slots=True)
class Handed:
    """A claim as the server returned it, with what was read for it since.

    ``left`` are the letters of what is still to be read: "p" input and context, "w" the workflow's
    context, "s" the signal's payload, "r" results; or "!" for what cannot be read. ``results`` has
    the payloads of the steps that the input refers to, None for what is null; a result that is
    missing is not in it.
    """

    workflow_id: str
    step: str
    held: HeldStep
    inserted: int
    left: str = ""
    input: bytes | None = None
    context: bytes | None = None
    workflow_context: bytes | None = None
    wait: bytes | None = None
    payload: bytes | None = None
    results: dict[str, bytes | None] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    size: int = 0
    """How many bytes the input has, with each result that it refers to, as far as is known."""
    _names: list[str] | None = None

    @classmethod
    @reading
    def parse(cls, entry: bytes, started: StartedStep) -> Handed:
        """The claim that became of an entry; raises RecordUnreadable."""
        _, workflow_id, step = entry.decode().rsplit("|", 2)
        handed = cls(
            workflow_id,
            step,
            HeldStep.parse(step, started.record),
            started.inserted,
            started.unread,
            started.input,
            started.context,
            started.workflow_context,
            started.wait,
            started.signal_payload,
        )
        handed.size = len(started.input or b"")
        for result in started.results or ():
            handed.take(result.step.decode(), result.kind, result.payload)
        return handed

    def take(self, name: str, kind: bytes, payload: bytes | None) -> None:
        """Adds the result that a reference to a step stands for."""
        if kind == _VALUE:
            assert payload is not None
            self.results[name] = payload
            self.size += len(payload)
        elif kind == _NULL:
            self.results[name] = None
        else:
            self.missing.add(name)

    def put(self, item: str, one: bytes | None, other: bytes | None) -> None:
        """Takes in an item that was read (``inputs.lua``)."""
        if item[0] == _RESULTS:
            assert one is not None
            self.take(item[1:], one, other)
            return
        if item == _OWN:
            self.input, self.context = one, other
            self.size += len(one or b"")
        elif item == "w":
            self.workflow_context = one
        else:
            self.payload = one
        self.left = self.left.replace(item, "")

    @property
    def key(self) -> Key:
        """Which step it is."""
        return self.workflow_id, self.step

    @reading
    def items(self) -> list[str]:
        """The items to read next: first those of the step itself, then the results that its input
        refers to. Raises RecordUnreadable."""
        if self.left == _UNTOLD:
            raise RecordUnreadable(UNREADABLE)
        own = [item for item in self.left if item != _RESULTS]
        if own or not self.left:
            return own
        if self._names is None:
            found = (ref.step for ref in references(value_of(self.input)))
            self._names = list(dict.fromkeys(found))
        return [
            f"{_RESULTS}{name}"
            for name in self._names
            if name not in self.results and name not in self.missing
        ]

    def bare(self) -> ClaimedStep:
        """The claim without all that it was given, to be given back."""
        return self._claimed(None, None, None, None)

    @reading
    def claim(self) -> ClaimedStep:
        """The claim as its holder sees it. Raises ResultMissing, or RecordUnreadable."""
        value = value_of(self.input)
        if self.results or self.missing:
            results = {
                name: decode(payload)
                for name, payload in self.results.items()
                if payload is not None
            }
            null = frozenset(name for name, payload in self.results.items() if payload is None)
            value = fill(value, results, null)
        return self._claimed(
            value, value_of(self.context), value_of(self.workflow_context), self._signal()
        )

    def _claimed(
        self, input_: Any, context: Any, workflow_context: Any, signal: WakingSignal | None
    ) -> ClaimedStep:
        held = self.held
        return ClaimedStep(
            workflow_id=self.workflow_id,
            step=self.step,
            worker=held.worker,
            queue=held.queue,
            attempt=held.attempt,
            max_attempts=held.max_attempts,
            lease=held.lease,
            lease_expires_at=time_of(self.inserted + held.expires),
            timeout=held.timeout,
            input=input_,
            context=context,
            workflow_context=workflow_context,
            signal=signal,
        )

    def _signal(self) -> WakingSignal | None:
        if self.wait is None:
            return None
        woken = Wait.parse(self.wait)
        assert woken.signal_id is not None
        return WakingSignal(
            id=woken.signal_id,
            signal=woken.signal,
            correlation_key=woken.key,
            payload=value_of(self.payload or None),
        )
