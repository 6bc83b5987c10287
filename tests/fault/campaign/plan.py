"""A workflow of a campaign: its graph, the work of each step's handler, how each step must end.

Attempts that are lost to kills change nothing: a step has more attempts than there are kills.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from rwf import Backoff, Fragment, Workflow, result, results

D = TypeVar("D", Workflow, Fragment)
SIGNAL: Final = "go"
ATTEMPTS: Final = 1000
REDUCED: Final = "reduced"
"""The key of a step's input that has the results of what another step has appended."""
_WAIT: Final = timedelta(seconds=0.3)
_RETRY_IN: Final = 0.05
_HOLD_IN: Final = 0.5
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
    HOLD = "hold"
    """Is tried again until an operator has done their part."""
    SKIP = "skip"
    SKIP_BRANCH = "skip_branch"


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
    APPEND = "append"
    """Appends steps while a step holds."""


@dataclass(frozen=True)
class Step:
    name: str
    parents: tuple[tuple[str, str], ...]
    act: Act = Act.COMPLETE
    seconds: float = 0.0
    """How long its handler works."""
    always: bool = False
    when: tuple[str, bool] | None = None
    """The parent that its condition asks, and whether the answer is true."""
    reduces: str | None = None
    """The step whose appended steps' results it gets."""
    appends: tuple[Step, ...] | None = None
    """The steps that it appends as it completes."""
    runs: tuple[Step, ...] = ()
    """The steps of the child workflow that it runs."""

    @property
    def all(self) -> Iterator[Step]:
        """It, and what it appends, to any depth."""
        yield self
        for step in self.appends or ():
            yield from step.all


@dataclass(frozen=True)
class End:
    """A step's last state, and its cause."""

    state: str
    cause: str
    branch: bool = field(default=False, compare=False, repr=False)
    """Whether its branch was skipped with it."""

    @property
    def worked(self) -> bool:
        """Whether it has a result of its own."""
        return self.state == "completed" and self.cause not in ("skipped", "operator_skipped")


@dataclass(frozen=True)
class Decision:
    """A handler's decision in one attempt: it reports ``status``, or waits for a signal, or runs
    ``child``."""

    status: str = "completed"
    deadline: timedelta | None = None
    waits: bool = False
    branch: bool = False
    retry_in: float | None = None
    append: Fragment | None = None
    child: Workflow | None = None


@dataclass(frozen=True)
class Plan:
    """One workflow, or with ``parent_step`` the child that this step of it runs."""

    number: int
    touch: Touch
    keyed: bool
    steps: dict[str, Step]
    delay: float
    """Seconds from its insert to the operator's commands and the signals."""
    outside: tuple[Step, ...] = ()
    """The steps that the operator appends."""
    parent_step: str | None = None

    @property
    def key(self) -> str | None:
        return f"campaign-{self.number}" if self.keyed else None

    @property
    def is_child(self) -> bool:
        return self.parent_step is not None

    @property
    def every(self) -> dict[str, Step]:
        """All its steps, those included that are appended."""
        roots = (*self.steps.values(), *self.outside)
        return {step.name: step for root in roots for step in root.all}

    @property
    def touched(self) -> Step:
        """The step on which the operator acts: the one that fails, or else the first."""
        wanted = {Touch.SKIP: Act.FAIL, Touch.MEND: Act.MEND}.get(self.touch)
        special = (step for step in self.steps.values() if step.act is wanted)
        return next(special, next(iter(self.steps.values())))

    @property
    def awaits(self) -> list[str]:
        """The correlation keys of its signals."""
        return [self.correlation(s.name) for s in self.steps.values() if s.act is Act.AWAIT]

    def correlation(self, step: str) -> str:
        return f"{self.number}.{step}"

    def child(self, step: str) -> Plan:
        """The workflow that a step runs."""
        steps = {one.name: one for one in self.every[step].runs}
        return Plan(self.number, self.touch, False, steps, self.delay, parent_step=step)

    def workflow(self) -> Workflow:
        context: dict[str, Any] = {"number": self.number}
        if self.is_child:
            context["parent_step"] = self.parent_step
        return self._add_to(Workflow("campaign", context=context), self.steps.values())

    def fragment(self, steps: Iterable[Step]) -> Fragment:
        return self._add_to(Fragment(), steps)

    def _add_to(self, definition: D, steps: Iterable[Step]) -> D:
        for step in steps:
            referred = step.parents if len(step.parents) <= _REFERRED else ()
            inputs: dict[str, Any] = {parent: result(parent) for parent, _ in referred}
            if step.reduces is not None:
                inputs[REDUCED] = results(step.reduces)
            definition.add(
                step.name,
                worker="act",
                input=inputs,
                max_attempts=ATTEMPTS,
                backoff=Backoff(base=0.05, cap=0.2),
                always=step.always,
                when=self._condition(step),
            )
            for parent, policy in step.parents:
                definition.connect(parent, step.name, policy=policy)
        return definition

    def _condition(self, step: Step) -> Any:
        if step.when is None:
            return None
        asked, answer = step.when
        number = result(asked, "number")
        return number == self.number if answer else number != self.number

    def decide(self, name: str, *, attempt: int, woken: bool, ready: bool) -> Decision:
        """The handler's decision in this attempt; ``ready``: the operator has done their part."""
        step = self.every[name]
        match step.act:
            case Act.AWAIT if not woken:
                return Decision(waits=True)
            case Act.EXPIRE:
                return Decision(waits=True, deadline=_WAIT)
            case Act.RETRY if attempt <= 2:
                return Decision("retryable", retry_in=_RETRY_IN)
            case Act.HOLD if not ready:
                return Decision("retryable", retry_in=_HOLD_IN)
            case Act.MEND if not ready:
                return Decision("failed")
            case Act.SKIP | Act.SKIP_BRANCH:
                return Decision("skipped", branch=step.act is Act.SKIP_BRANCH)
            case Act.FAIL | Act.DISCARD | Act.CANCEL:
                return Decision(_ENDS[step.act].state)
        if step.runs:
            return Decision(child=self.child(name).workflow())
        if step.appends is not None:
            return Decision(append=self.fragment(step.appends))
        return Decision()

    def ends(self) -> dict[str, End]:
        """How each step must end; after a cancel request it may also have been cancelled.

        A step that is to be appended is there only where the one that appends it completes.
        """
        steps = {step.name: step for step in (*self.steps.values(), *self.outside)}
        parents = {name: dict(step.parents) for name, step in steps.items()}
        found: dict[str, End] = {}
        while len(found) < len(steps):
            for step in list(steps.values()):
                if step.name in found or not parents[step.name].keys() <= found.keys():
                    continue
                found[step.name] = end = self._end(step, parents[step.name], found)
                if end.worked and step.appends:
                    _append(step.name, step.appends, parents)
                    steps |= {one.name: one for one in step.appends}
        return found

    def _end(self, step: Step, policies: Mapping[str, str], found: Mapping[str, End]) -> End:
        above = [found[parent] for parent in policies]
        failed = {policy for parent, policy in policies.items() if found[parent].state != _DONE}
        if not step.always:
            if "cancel" in failed:
                return End("cancelled", "cancelled_by_dependency")
            if above and all(end.branch for end in above):
                return _SKIPPED_BRANCH
            if "on_failure" in policies.values() and "on_failure" not in failed:
                return _SKIPPED
        if step.when is not None and not (found[step.when[0]].worked and step.when[1]):
            return _SKIPPED_BRANCH
        if self.touch is Touch.SKIP and step is self.touched:
            return End(_DONE, "operator_skipped")
        if step.runs and any(end.state != _DONE for end in self.child(step.name).ends().values()):
            return _ENDS[Act.FAIL]
        return _ENDS.get(step.act, End(_DONE, "completed"))


def _append(name: str, steps: Sequence[Step], parents: dict[str, dict[str, str]]) -> None:
    """The edges of steps that ``name`` appends: what waits for it waits for the last of these."""
    waiting = {child: above[name] for child, above in parents.items() if name in above}
    inner = {parent for step in steps for parent, _ in step.parents}
    for step in steps:
        parents[step.name] = dict(step.parents) or {name: "cancel"}
        if step.name not in inner:
            for child, policy in waiting.items():
                parents[child][step.name] = policy


_DONE: Final = "completed"
_SKIPPED: Final = End(_DONE, "skipped")
_SKIPPED_BRANCH: Final = End(_DONE, "skipped", branch=True)
_ENDS: Final = {
    Act.FAIL: End("failed", "step_failed"),
    Act.DISCARD: End("discarded", "step_failed"),
    Act.CANCEL: End("cancelled", "cancelled"),
    Act.EXPIRE: End("expired", "expired_wait"),
    Act.SKIP: _SKIPPED,
    Act.SKIP_BRANCH: _SKIPPED_BRANCH,
}


def token_of(payload: Any) -> str | None:
    """A text that tells by which workflow and step a result was made."""
    return payload.get("token") if isinstance(payload, dict) else None
