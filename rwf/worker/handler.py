"""A registered handler: how its parameters are filled, and what its return value becomes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, get_type_hints

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from rwf.worker.context import StepContext
from rwf.worker.outcomes import Fail

Function = Callable[..., Any]
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_CONTEXT_NAME: Final = "ctx"


@dataclass(frozen=True, slots=True)
class _Field:
    """A parameter that takes a field of the input, or all of it."""

    name: str
    adapter: TypeAdapter[Any] | None
    required: bool

    def validated(self, value: Any) -> Any:
        return value if self.adapter is None else self.adapter.validate_python(value)


class Handler:
    """A function that does the steps of one worker name.

    Each parameter receives the input's field of its name; a single one, unless it is keyword-only,
    receives the whole input when that has no such field. A parameter's type is validated by
    pydantic, and so is what a return annotation says.

    Raises TypeError for a signature that cannot be filled.
    """

    def __init__(self, name: str, function: Function) -> None:
        self.name = name
        self._function = function
        self.is_async = inspect.iscoroutinefunction(function)
        hints = _hints(function)
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.kind not in _NAMED:
                raise TypeError(f"handler {name!r}: parameter {parameter} cannot be filled by name")
        self._context = [p.name for p in parameters if _takes_context(p, hints)]
        given = [p for p in parameters if p.name not in self._context]
        self._fields = [
            _Field(p.name, _adapter(hints.get(p.name)), p.default is inspect.Parameter.empty)
            for p in given
        ]
        self._single = len(given) == 1 and given[0].kind is not inspect.Parameter.KEYWORD_ONLY
        self._returned = _adapter(hints.get("return"))

    def arguments(self, context: StepContext) -> dict[str, Any]:
        """The keyword arguments for a claimed step; raises Fail for an input that is not valid.

        Running the step again would change nothing: its input stays what it is.
        """
        arguments: dict[str, Any] = dict.fromkeys(self._context, context)
        try:
            if self._takes_whole(context.input):
                arguments[self._fields[0].name] = self._fields[0].validated(context.input)
            elif self._fields:
                arguments |= self._named(context.input)
        except ValidationError as error:
            raise Fail(f"the input is not valid: {_short(error)}") from error
        return arguments

    def _takes_whole(self, given: Any) -> bool:
        return self._single and not (isinstance(given, dict) and self._fields[0].name in given)

    def _named(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise Fail("the input is not valid: it is no object, whose fields could be passed")
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

    def call(self, arguments: dict[str, Any]) -> Any:
        """Calls the function: a coroutine, or the result of a plain one."""
        return self._function(**arguments)

    def result(self, returned: Any) -> Any:
        """The return value as JSON data; raises Fail for one that its annotation does not fit."""
        if self._returned is not None:
            try:
                return self._returned.dump_python(returned, mode="json", warnings="error")
            except PydanticSerializationError as error:
                raise Fail(f"the result is not what {self.name} says it returns") from error
        return returned.model_dump(mode="json") if isinstance(returned, BaseModel) else returned


def _hints(function: Function) -> dict[str, Any]:
    """The annotations that can be resolved; a name that only a type checker sees is left out, and
    what it stands for is not validated."""
    hints: dict[str, Any] = {}
    names = getattr(inspect.unwrap(function), "__globals__", {})
    for name, annotation in inspect.get_annotations(inspect.unwrap(function)).items():
        with suppress(NameError):
            one = SimpleNamespace(__annotations__={name: annotation})
            hints |= get_type_hints(one, globalns=names, include_extras=True)
    return hints


def _takes_context(parameter: inspect.Parameter, hints: dict[str, Any]) -> bool:
    hint = hints.get(parameter.name)
    if hint is None:
        return parameter.name == _CONTEXT_NAME
    return inspect.isclass(hint) and issubclass(hint, StepContext)


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    if hint is None or hint is Any or hint is type(None):
        return None
    try:
        return TypeAdapter(hint)
    except PydanticUserError as error:
        raise TypeError(f"{hint!r} cannot be validated: {error}") from None


def _short(error: ValidationError) -> str:
    """The first fault, without the input, which may be secret or long."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    more = f" and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{place + ': ' if place else ''}{first['msg']}{more}"
