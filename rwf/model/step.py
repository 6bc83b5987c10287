"""The definition of one step, with all checks that need no other step."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from rwf.errors import WorkflowInvalid
from rwf.model.conditions import Condition, captured
from rwf.model.names import checked_name, shown
from rwf.model.payload import decode, encode
from rwf.model.references import AnyRef, OutcomeRef, Ref, ResultsRef
from rwf.model.retry import DEFAULT, Backoff, seconds

P = ParamSpec("P")
T = TypeVar("T")

# The largest payload that is ever held, in bytes; a client's own limit is checked when it compiles.
MAX_CAPTURED: Final = 16 * 1024 * 1024
DEFAULT_QUEUE: Final = "default"
DEFAULT_PRIORITY: Final = 0
DEFAULT_MAX_ATTEMPTS: Final = 5

_WORKER: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}")


class Named(Protocol):
    """Something that knows the worker name it is registered under."""

    @property
    def rwf_worker(self) -> str: ...


# Accepted by ``worker=`` beside a name: a function that ``Worker.step`` has registered, which a
# type checker cannot tell from others.
Handler = Named | Callable[..., Any]


@dataclass(frozen=True, slots=True, init=False)
class StepDef:
    """One step of a definition.

    Parameters are those of :meth:`rwf.model.definition.Definition.add`, which states their rules
    and errors. Values are captured as bytes: changing them later changes no step.
    """

    name: str
    worker: str
    queue: str
    priority: int
    max_attempts: int
    backoff: Backoff | None
    timeout: float | None
    deps: tuple[str, ...]
    input: bytes | None
    context: bytes | None
    when: bytes | None
    """The stored condition (``rwf.model.conditions``)."""
    always: bool
    references: tuple[str, ...]
    """The steps whose results the input or the condition refers to, each once."""
    outcomes: tuple[str, ...]
    """The steps whose outcomes the input refers to, each once."""
    lists: tuple[str, ...]
    """The steps of which the input refers to the results of what they append, each once."""

    def __init__(
        self,
        name: str,
        *,
        worker: str | Handler,
        input: Any = None,
        queue: str = DEFAULT_QUEUE,
        deps: Iterable[str] = (),
        context: Any = None,
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        backoff: Backoff | Mapping[str, Any] | timedelta | float | None = None,
        timeout: float | timedelta | None = None,
        when: Condition | None = None,
        always: bool = False,
    ) -> None:
        put = object.__setattr__
        name = checked_name(name, "a step's name")
        put(self, "name", name)
        put(self, "worker", _checked_worker(name, worker))
        is_default = queue == DEFAULT_QUEUE
        put(self, "queue", DEFAULT_QUEUE if is_default else checked_name(queue, "a queue"))
        put(self, "priority", _checked_int(name, "priority", priority, -999, 999))
        put(self, "max_attempts", _checked_int(name, "max_attempts", max_attempts, 1, 1000))
        put(self, "backoff", None if backoff is None else _checked_backoff(name, backoff))
        put(self, "timeout", None if timeout is None else _checked_timeout(name, timeout))
        put(self, "deps", _checked_deps(name, deps) if deps != () else ())
        put(self, "context", None if context is None else capture(context, self.path_of("context")))
        put(self, "always", _checked_flag(name, "always", always))
        put(self, "input", None)
        put(self, "when", None)
        put(self, "references", ())
        put(self, "outcomes", ())
        put(self, "lists", ())
        if input is not None:
            self._put_input(input, ref_objects=False)
        if when is not None:
            if not isinstance(when, Condition):
                raise invalid(
                    f"when of step {name!r} must be a condition such as result('a') == 1,"
                    f" not {shown(when)}",
                    step=name,
                )
            self._put_condition(when)

    def _put_input(self, value: Any, *, ref_objects: bool) -> None:
        refs: list[AnyRef] = []
        encoded = capture(value, self.path_of("input"), refs, ref_objects)
        object.__setattr__(self, "input", encoded)
        if refs:
            results = [ref.step for ref in refs if isinstance(ref, Ref)]
            self._refer("references", results, "result")
            outcomes = [ref.step for ref in refs if isinstance(ref, OutcomeRef)]
            self._refer("outcomes", outcomes, "outcome")
            lists = [ref.step for ref in refs if isinstance(ref, ResultsRef)]
            self._refer("lists", lists, "results")

    def _put_condition(self, condition: Condition | list[Any]) -> None:
        encoded, steps = captured(condition, self.name, self.path_of("when"), MAX_CAPTURED)
        object.__setattr__(self, "when", encoded)
        self._refer("references", [*self.references, *steps], "result")

    def _refer(self, field: str, steps: Iterable[str], what: str) -> None:
        names = tuple(dict.fromkeys(steps))
        if self.name in names:
            raise _self_loop(self.name, f"refers to its own {what}")
        object.__setattr__(self, field, names)

    def path_of(self, field: str) -> str:
        """The prefix of error paths into this step's ``input``, ``context`` or ``when``."""
        return f'$.steps["{self.name}"].{field}'

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> StepDef:
        """A step from its keywords and ``name``; references in the input are :class:`Ref`.

        Raises :class:`WorkflowInvalid` as the constructor does, and ``invalid_step_definition`` for
        unknown or missing fields.
        """
        return cls(**_checked_fields(fields))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> StepDef:
        """A step from its JSON form; references in the input are ``{"$result": ...}`` objects.

        Raises as :meth:`from_mapping` does.
        """
        rest = _checked_fields(fields)
        value, condition = rest.pop("input", None), rest.pop("when", None)
        step = cls(**rest)
        if value is not None:
            step._put_input(value, ref_objects=True)
        if condition is not None:
            step._put_condition(condition)
        return step

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, without fields that have their default."""
        form: dict[str, Any] = {"name": self.name, "worker": self.worker}
        if self.input is not None:
            form["input"] = decode(self.input)
        if self.queue != DEFAULT_QUEUE:
            form["queue"] = self.queue
        if self.deps:
            form["deps"] = list(self.deps)
        if self.context is not None:
            form["context"] = decode(self.context)
        if self.priority != DEFAULT_PRIORITY:
            form["priority"] = self.priority
        if self.max_attempts != DEFAULT_MAX_ATTEMPTS:
            form["max_attempts"] = self.max_attempts
        if self.backoff is not None:
            form["backoff"] = self.backoff.to_dict()
        if self.timeout is not None:
            form["timeout"] = self.timeout
        if self.when is not None:
            form["when"] = decode(self.when)
        if self.always:
            form["always"] = True
        return form


_FIELDS: Final = inspect.signature(StepDef).parameters.keys()


def with_parameters_of(
    make: Callable[P, Any],
) -> Callable[[Callable[..., T]], Callable[Concatenate[Any, P], T]]:
    """Gives a method that passes its arguments on to ``make`` the parameters of ``make``, so that
    they are listed once."""
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)

    def declared(method: Callable[..., T]) -> Callable[Concatenate[Any, P], T]:
        parameters = inspect.signature(make).parameters.values()
        method.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
        return method

    return declared


def capture(
    value: Any,
    path: str,
    refs: list[AnyRef] | None = None,
    ref_objects: bool = False,
) -> bytes:
    """A user's value as it is now, encoded. Raises as :func:`rwf.model.payload.encode` does."""
    return encode(value, path=path, max_bytes=MAX_CAPTURED, refs=refs, ref_objects=ref_objects)


def invalid(message: str, **details: Any) -> WorkflowInvalid:
    """The error for a definition that is wrong in itself."""
    return WorkflowInvalid("invalid_step_definition", message, **details)


def _self_loop(name: str, how: str) -> WorkflowInvalid:
    return WorkflowInvalid("self_loop", f"step {name!r} {how}", step=name)


def _checked_fields(fields: object) -> dict[str, Any]:
    if not isinstance(fields, Mapping):
        raise invalid(f"a step must be a mapping, not {shown(fields)}")
    for key in fields:
        if key not in _FIELDS:
            raise invalid(f"a step has no field {shown(key)}")
    for key in ("name", "worker"):
        if key not in fields:
            raise invalid(f"a step needs the field {key!r}")
    return dict(fields)


def _checked_worker(step: str, worker: object) -> str:
    name = worker if isinstance(worker, str) else getattr(worker, "rwf_worker", None)
    if isinstance(name, str) and _WORKER.fullmatch(name):
        return str.__str__(name)
    raise invalid(
        f"the worker of step {step!r} must be a registered handler, or a name of 1 to 256"
        f" characters without control characters, not {shown(worker)}",
        step=step,
    )


def _checked_int(step: str, field: str, value: object, low: int, high: int) -> int:
    # As with names, an IntEnum's member is kept as its number.
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    raise invalid(
        f"{field} of step {step!r} must be an integer from {low} to {high}, not {shown(value)}",
        step=step,
    )


def _checked_flag(step: str, field: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise invalid(f"{field} of step {step!r} must be True or False, not {shown(value)}", step=step)


def _checked_backoff(step: str, value: object) -> Backoff | None:
    try:
        backoff = Backoff.of(value)
    except ValueError as error:
        raise invalid(f"backoff of step {step!r}: {error}", step=step) from None
    return None if backoff == DEFAULT else backoff


def _checked_timeout(step: str, value: object) -> float:
    try:
        timeout = seconds(value, "timeout")
    except ValueError as error:
        raise invalid(f"step {step!r}: {error}", step=step) from None
    if timeout == 0:
        raise invalid(f"step {step!r}: timeout must be positive", step=step)
    return timeout


def _checked_deps(step: str, deps: object) -> tuple[str, ...]:
    # Asking a list whether it is iterable takes longer than the rest.
    if type(deps) is not list and (isinstance(deps, str | bytes) or not isinstance(deps, Iterable)):
        raise invalid(f"deps of step {step!r} must be names, not {shown(deps)}", step=step)
    names = tuple(dict.fromkeys([checked_name(dep, "a dependency") for dep in deps]))
    if step in names:
        raise _self_loop(step, "depends on itself")
    return names
