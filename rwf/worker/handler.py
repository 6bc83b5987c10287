"""A registered handler: how its parameters are filled, and its return value is converted."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, Union, get_args, get_type_hints, is_typeddict

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from rwf.worker.context import StepContext
from rwf.worker.middleware import Chain, around, around_async
from rwf.worker.outcomes import Append, Fail

Function = Callable[..., Any]
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_CONTEXT_NAME: Final = "ctx"


@dataclass(frozen=True, slots=True)
class _Field:
    """A parameter that takes a field of the input, or all of it."""

    name: str
    adapter: TypeAdapter[Any] | None
    required: bool
    is_model: bool
    """Whether it is an object with fields of its own."""

    def validated(self, value: Any, *, named: bool = True) -> Any:
        """The value as the parameter takes it; raises Fail, which names what is wrong with it."""
        try:
            return value if self.adapter is None else self.adapter.validate_python(value)
        except ValidationError as error:
            place = self.name if named else ""
            raise Fail(f"the input is not valid: {_short(error, place)}") from error


class Handler:
    """A function that does the steps of one worker name.

    Each parameter receives the input's field of its name; a single one, unless it is keyword-only,
    receives the whole input when that has no such field. A parameter with a default may be missing;
    a single one is when there is no input, or the input is an object that is nothing it could take.
    A parameter's type is validated by pydantic, and so is what a return annotation says.

    ``function`` is anything that can be called: a function, a bound method, a partial, an object
    with ``__call__``. Raises TypeError for a signature that cannot be filled.
    """

    def __init__(self, name: str, function: Function, middleware: Chain | None = None) -> None:
        self.name = name
        self.middleware = Chain() if middleware is None else middleware
        self._function = function
        self.is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
        hints = _hints(_annotated(function))
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.kind not in _NAMED:
                raise TypeError(f"handler {name!r}: parameter {parameter} cannot be filled by name")
        self._context = [p.name for p in parameters if _takes_context(p, hints)]
        given = [p for p in parameters if p.name not in self._context]
        self._fields = [
            _Field(
                p.name,
                _adapter(hints.get(p.name)),
                p.default is inspect.Parameter.empty,
                _is_model(hints.get(p.name)),
            )
            for p in given
        ]
        self._single = len(given) == 1 and given[0].kind is not inspect.Parameter.KEYWORD_ONLY
        self._returned = _adapter(_result_hint(hints.get("return")))

    @property
    def needs_loop(self) -> bool:
        """Whether it, or middleware around it, runs in an event loop."""
        return self.is_async or bool(self.middleware.in_loop)

    def arguments(self, context: StepContext) -> dict[str, Any]:
        """The keyword arguments for a claimed step; raises Fail for an input that is not valid.

        Running the step again would change nothing: its input stays what it is.
        """
        arguments: dict[str, Any] = dict.fromkeys(self._context, context)
        given = context.input
        if self._takes_whole(given):
            return arguments | self._whole(self._fields[0], given)
        return arguments | (self._named(given) if self._fields else {})

    def _takes_whole(self, given: Any) -> bool:
        return self._single and not (isinstance(given, dict) and self._fields[0].name in given)

    def _whole(self, field: _Field, given: Any) -> dict[str, Any]:
        """A single parameter, which takes the whole input unless it is missing there."""
        missable = not field.required and (given is None or isinstance(given, dict))
        if missable and (given is None or field.adapter is None):
            return {}
        try:
            return {field.name: field.validated(given, named=False)}
        except Fail:
            if missable and not field.is_model:
                return {}
            raise

    def _named(self, given: Any) -> dict[str, Any]:
        if given is None and not any(field.required for field in self._fields):
            return {}
        if not isinstance(given, dict):
            raise Fail("the input is not valid: it is not an object with fields to pass")
        missing = [
            field.name for field in self._fields if field.required and field.name not in given
        ]
        if missing:
            raise Fail(f"the input is not valid: it has no field {missing[0]!r}")
        return {
            field.name: field.validated(given[field.name])
            for field in self._fields
            if field.name in given
        }

    def call(self, context: StepContext, arguments: dict[str, Any]) -> Any:
        """Calls the function within its middleware: what is to be awaited of a coroutine function,
        the result of a plain one, around which its async middleware is the caller's to run."""
        if not self.middleware.all:
            return self._function(**arguments)
        call = partial(self._function, **arguments)
        if self.is_async:
            return around_async(self.middleware.all, context, call)
        return around(self.middleware.plain, context, call)

    def result(self, returned: Any) -> Any:
        """The return value as JSON data; raises Fail for one that its annotation does not fit."""
        try:
            if self._returned is not None:
                return self._returned.dump_python(returned, mode="json", warnings="error")
            return returned.model_dump(mode="json") if isinstance(returned, BaseModel) else returned
        except PydanticSerializationError as error:
            raise Fail(f"the result is not what {self.name} says it returns") from error


def _annotated(function: Function) -> Function:
    """The function behind decorators, partials and callable objects that has the annotations."""
    found: Any = inspect.unwrap(function)
    while isinstance(found, partial):
        found = inspect.unwrap(found.func)
    if not (inspect.isroutine(found) or inspect.isclass(found)):
        found = inspect.unwrap(type(found).__call__)
    annotated: Function = found
    return annotated


def _hints(function: Function) -> dict[str, Any]:
    """The annotations that can be resolved; a name that only a type checker sees is left out, and
    what it stands for is not validated."""
    hints: dict[str, Any] = {}
    names = getattr(function, "__globals__", {})
    for name, annotation in inspect.get_annotations(function).items():
        with suppress(NameError):
            one = SimpleNamespace(__annotations__={name: annotation})
            hints |= get_type_hints(one, globalns=names, include_extras=True)
    return hints


def _takes_context(parameter: inspect.Parameter, hints: dict[str, Any]) -> bool:
    hint = hints.get(parameter.name)
    if hint is None:
        return parameter.name == _CONTEXT_NAME
    return inspect.isclass(hint) and issubclass(hint, StepContext)


def _result_hint(hint: Any) -> Any:
    """The hint of a returned result: not of what a handler returns to append steps."""
    if hint is Append:
        return None
    choices = get_args(hint)
    if Append in choices:
        return Union[tuple(choice for choice in choices if choice is not Append)]  # noqa: UP007
    return hint


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    if hint is None or hint is Any or hint is type(None):
        return None
    try:
        return TypeAdapter(hint)
    except PydanticUserError as error:
        raise TypeError(f"{hint!r} cannot be validated: {error}") from None


def _is_model(hint: Any) -> bool:
    """Whether a type is, or has as one of its choices, an object with fields of its own."""
    if inspect.isclass(hint):
        return issubclass(hint, BaseModel) or is_dataclass(hint) or is_typeddict(hint)
    return any(map(_is_model, get_args(hint)))


def _short(error: ValidationError, place: str) -> str:
    """The first fault and where it is, without the input, which may be secret or long."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(filter(None, (place, *map(str, first["loc"]))))
    more = f" and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{place + ': ' if place else ''}{first['msg']}{more}"
