"""The load: graphs, the work of each step's handler, and how each step must end.

All of it is a pure function of a seed and a workflow's number. Attempts that are lost to kills
change nothing: a step has more attempts than there are kills.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from rwf import Backoff, Workflow, result

SIGNAL: Final = "go"
ATTEMPTS: Final = 1000
_WAIT: Final = timedelta(seconds=0.3)
_REFERRED: Final = 12
"""The results of a step with more parents are not passed on."""


class Act(StrEnum):
    """The behaviour of a step's handler."""

    COMPLETE = "complete"
    RETRY = "retry"
    """Fails in its first two attempts."""
    FAIL = "fail"
    DISCARD = "discard"
    CANCEL = "cancel"
    AWAIT = "await"
    """Completes once its signal has come."""
    EXPIRE = "expire"
    """Waits for a signal that never comes."""
    MEND = "mend"
    """Fails until an operator has mended its cause."""


class Touch(StrEnum):
    """An operator's action on a workflow."""

    NONE = "none"
    CANCEL = "cancel"
    REOPEN = "reopen"
    """Cancels it, and has all of it run again."""
    SKIP = "skip"
    """Skips the step that has failed."""
    MEND = "mend"
    """Mends the cause of a failure, and has the step retried."""
    RERUN = "rerun"
    """Has all of it run again once it has ended."""


@dataclass(frozen=True)
class Step:
    name: str
    parents: tuple[tuple[str, str], ...]
    act: Act = Act.COMPLETE
    seconds: float = 0.0
    """How long its handler works."""


@dataclass(frozen=True)
class End:
    """A step's last state, and its cause."""

    state: str
    cause: str


@dataclass(frozen=True)
class Decision:
    """A handler's decision in one attempt: it reports ``status``, or waits for a signal."""

    status: str = "completed"
    deadline: timedelta | None = None
    waits: bool = False


@dataclass(frozen=True)
class Plan:
    """One workflow."""

    number: int
    touch: Touch
    keyed: bool
    steps: dict[str, Step]
    delay: float
    """Seconds from its insert to the operator's commands and the signals."""

    @property
    def key(self) -> str | None:
        return f"campaign-{self.number}" if self.keyed else None

    @property
    def touched(self) -> Step:
        """The step on which the operator acts: the one that fails, or else the first."""
        special = (step for step in self.steps.values() if step.act in (Act.FAIL, Act.MEND))
        return next(special, next(iter(self.steps.values())))

    @property
    def awaits(self) -> list[str]:
        """The correlation keys of its signals."""
        return [self.correlation(s.name) for s in self.steps.values() if s.act is Act.AWAIT]

    def correlation(self, step: str) -> str:
        return f"{self.number}.{step}"

    def workflow(self) -> Workflow:
        wf = Workflow("campaign", context={"number": self.number})
        for step in self.steps.values():
            referred = step.parents if len(step.parents) <= _REFERRED else ()
            wf.add(
                step.name,
                worker="act",
                input={parent: result(parent) for parent, _ in referred},
                max_attempts=ATTEMPTS,
                backoff=Backoff(base=0.05, cap=0.2),
            )
            for parent, policy in step.parents:
                wf.connect(parent, step.name, policy=policy)
        return wf

    def decide(self, step: str, *, attempt: int, woken: bool, mended: bool) -> Decision:
        """The handler's decision in this attempt."""
        act = self.steps[step].act
        if act is Act.AWAIT and not woken:
            return Decision(waits=True)
        if act is Act.EXPIRE:
            return Decision(waits=True, deadline=_WAIT)
        if act is Act.RETRY and attempt <= 2:
            return Decision("retryable")
        if act is Act.FAIL or (act is Act.MEND and not mended):
            return Decision("failed")
        return Decision({Act.DISCARD: "discarded", Act.CANCEL: "cancelled"}.get(act, "completed"))

    def ends(self) -> dict[str, End]:
        """How each step must end; after a cancel request it may also have been cancelled."""
        found: dict[str, End] = {}
        for step in self.steps.values():
            cancelled = any(
                policy == "cancel" and found[parent].state != "completed"
                for parent, policy in step.parents
            )
            if cancelled:
                found[step.name] = End("cancelled", "cancelled_by_dependency")
            elif self.touch is Touch.SKIP and step is self.touched:
                found[step.name] = End("completed", "operator_skipped")
            else:
                found[step.name] = _ENDS.get(step.act, End("completed", "completed"))
        return found


_ENDS: Final = {
    Act.FAIL: End("failed", "step_failed"),
    Act.DISCARD: End("discarded", "step_failed"),
    Act.CANCEL: End("cancelled", "cancelled"),
    Act.EXPIRE: End("expired", "expired_wait"),
}


@lru_cache(maxsize=20_000)
def plan(seed: int, number: int) -> Plan:
    """The workflow of this number."""
    dice = random.Random(f"{seed}/{number}")
    touch = dice.choices(list(Touch), (60, 12, 6, 7, 8, 7))[0]
    one_root = touch in (Touch.REOPEN, Touch.RERUN)
    shape = dice.choice(_ONE_ROOT if one_root else _SHAPES)
    if touch is Touch.NONE and dice.random() < 0.02:
        shape = _wide
    steps = [
        replace(step, act=_act(dice, touch), seconds=dice.choice((0, 0, 0.005, 0.02)))
        for step in shape(dice)
    ]
    if touch in (Touch.SKIP, Touch.MEND):
        place = dice.randrange(len(steps))
        act = Act.FAIL if touch is Touch.SKIP else Act.MEND
        steps[place] = replace(steps[place], act=act)
    lone = touch is Touch.NONE and all(step.act is not Act.AWAIT for step in steps)
    return Plan(
        number=number,
        touch=touch,
        # Clients that act on it know only of acknowledged inserts.
        keyed=not (lone and dice.random() < 0.2),
        steps={step.name: step for step in steps},
        delay=dice.choice((0, 0.05, 0.2, 1.0)),
    )


def _act(dice: random.Random, touch: Touch) -> Act:
    """Chosen so that a step for which an operator waits is reached, and no signal comes a second
    time."""
    if touch in (Touch.SKIP, Touch.MEND):
        return dice.choices((Act.COMPLETE, Act.RETRY, Act.AWAIT), (80, 10, 10))[0]
    if touch in (Touch.REOPEN, Touch.RERUN):
        return dice.choices((Act.COMPLETE, Act.RETRY, Act.EXPIRE), (85, 10, 5))[0]
    acts = (Act.COMPLETE, Act.RETRY, Act.FAIL, Act.DISCARD, Act.CANCEL, Act.AWAIT, Act.EXPIRE)
    return dice.choices(acts, (70, 9, 3, 2, 2, 10, 4))[0]


# --- shapes, each with its steps in topological order


def _edge(dice: random.Random, parent: str) -> tuple[str, str]:
    return parent, "continue" if dice.random() < 0.2 else "cancel"


def _chain(dice: random.Random) -> list[Step]:
    names = [f"s{n}" for n in range(dice.randint(2, 8))]
    links = pairwise(names)
    return [Step(names[0], ()), *(Step(b, (_edge(dice, a),)) for a, b in links)]


def _fan_out(dice: random.Random) -> list[Step]:
    children = [Step(f"c{n}", (_edge(dice, "root"),)) for n in range(dice.randint(3, 12))]
    return [Step("root", ()), *children]


def _fan_in(dice: random.Random) -> list[Step]:
    parents = [f"p{n}" for n in range(dice.randint(3, 12))]
    last = Step("last", tuple(_edge(dice, parent) for parent in parents))
    return [*(Step(parent, ()) for parent in parents), last]


def _diamond(dice: random.Random) -> list[Step]:
    middle = [Step(name, (_edge(dice, "a"),)) for name in "bcd"]
    return [Step("a", ()), *middle, Step("e", tuple(_edge(dice, name) for name in "bcd"))]


def _mesh(dice: random.Random) -> list[Step]:
    names = [f"m{n}" for n in range(dice.randint(5, 12))]
    steps = []
    for place, name in enumerate(names):
        parents = dice.sample(names[:place], min(place, dice.randint(0, 3)))
        steps.append(Step(name, tuple(_edge(dice, parent) for parent in parents)))
    return steps


def _wide(dice: random.Random) -> list[Step]:
    """Large enough to be released, and perhaps cancelled, in slices."""
    children = [Step(f"c{n}", (("root", "cancel"),)) for n in range(300)]
    last = Step("last", tuple((child.name, "continue") for child in children))
    return [Step("root", ()), *children, last]


_ONE_ROOT: Final[tuple[Callable[[random.Random], list[Step]], ...]] = (_chain, _fan_out, _diamond)
_SHAPES: Final = (*_ONE_ROOT, _fan_in, _mesh)


def token_of(payload: Any) -> str | None:
    """A text that tells by which workflow and step a result was made."""
    return payload.get("token") if isinstance(payload, dict) else None
