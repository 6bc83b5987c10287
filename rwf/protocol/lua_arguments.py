"""Generates ``lua/lib/arguments.lua``: how each function's arguments are read, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from rwf.protocol.declare import Item, Parameter, ServerFunction, item_fields
from rwf.protocol.lua_text import WIDTH, wrapped

# The transport fills in the publishing verb, and whether the call was sent before.
_FILLED_IN = 2
# Beside the table that it is appended to.
_ELEMENT_WIDTH = 80


def signature(function: type[ServerFunction[Any]]) -> str:
    """The parameters that a function's file has to name: ``tx, step, lease``."""
    first = "tx" if function.publishes else "keys"
    return ", ".join([first, *(parameter.name for parameter in function.parameters)])


def check_signature(function: type[ServerFunction[Any]], text: str) -> None:
    """Raises TypeError where a function's file does not take what its declaration says."""
    found = re.findall(r"^return function\(([^)]*)\)", text, re.MULTILINE)
    if found != [signature(function)]:
        raise TypeError(
            f"lua/functions/{function.name}.lua must return function({signature(function)}), "
            f"and returns {found}"
        )


def arguments_lua(functions: Iterable[type[ServerFunction[Any]]]) -> Iterator[str]:
    """The lines of a library module that has a reader for each function."""
    yield "local M = {}"
    for function in functions:
        yield ""
        yield from _reader(function)
    yield ""
    yield "return M"


def _reader(function: type[ServerFunction[Any]]) -> Iterator[str]:
    yield f"-- {function.name}({signature(function)})"
    yield f"function M.{function.name}(body)"
    takes_any = function.publishes or function.parameters
    yield f"  return function(keys{', argv' if takes_any else ''})"
    at = 1
    if function.publishes:
        at += _FILLED_IN
    values = ['transaction.open(keys, argv[1], argv[2] == "1")' if function.publishes else "keys"]
    place: str | None = None
    for parameter in function.parameters:
        if parameter.items is None:
            values.append(_value(parameter.kind, parameter.optional, _at(place, at)))
            at += 1
        else:
            yield from (f"    {line}" for line in _list(parameter, place, at))
            values.append(parameter.name)
            place, at = "next_at", 0
    yield from _call(values)
    yield "  end"
    yield "end"


def _call(values: list[str]) -> Iterator[str]:
    line = f"    return body({', '.join(values)})"
    if len(line) <= WIDTH:
        yield line
        return
    yield "    return body("
    *before, last = wrapped(values, "      ")
    yield from before
    yield last.removesuffix(",")
    yield "    )"


def _at(place: str | None, offset: int) -> str:
    if place is None:
        return f"argv[{offset}]"
    return f"argv[{place} + {offset}]" if offset else f"argv[{place}]"


def _value(kind: type, optional: bool, text: str) -> str:
    if kind is bool:
        return f'{text} == "1"'
    if kind is int:
        return f"tonumber({text})"
    return f'{text} ~= "" and {text} or nil' if optional else text


def _list(parameter: Parameter, place: str | None, offset: int) -> Iterator[str]:
    """Reads a list into a table of its name; ``next_at`` is then where the next argument stands."""
    assert parameter.items is not None
    name = parameter.name
    start = str(offset) if place is None else f"{place} + {offset}" if offset else place
    if parameter.last:
        yield from _elements(parameter, start, "#argv")
        return
    width, _, _ = _element(parameter.items)
    times = f" * {width}" if width > 1 else ""
    yield f"local {name}_end = {start} + tonumber({_at(place, offset)}){times}"
    yield from _elements(parameter, f"{start} + 1", f"{name}_end")
    yield f"{'local next_at' if place is None else 'next_at'} = {name}_end + 1"


def _elements(parameter: Parameter, first: str, last: str) -> Iterator[str]:
    """Reads the elements that stand from one argument to another.

    Texts are copied at once, which is quicker: no call has as many as Lua's stack has room for,
    some 8,000.
    """
    assert parameter.items is not None
    if parameter.items in (str, bytes):
        yield f"local {parameter.name} = {{ unpack(argv, {first}, {last}) }}"
        return
    width, before, value = _element(parameter.items)
    yield f"local {parameter.name}, {parameter.name}_length = {{}}, 0"
    yield f"for at = {first}, {last}{f', {width}' if width > 1 else ''} do"
    yield from _appended(parameter.name, before, value)
    yield "end"


def _appended(name: str, before: list[str], value: list[str]) -> Iterator[str]:
    """Appends an element to the table of this name."""
    first, *others = value
    yield from (f"  {line}" for line in before)
    yield f"  {name}_length = {name}_length + 1"
    yield f"  {name}[{name}_length] = {first}"
    yield from (f"  {line}" for line in others)


def _element(items: type) -> tuple[int, list[str], list[str]]:
    """How many arguments an element takes, the lines that take it apart, and its value's lines,
    where it begins at ``at``."""
    if not issubclass(items, Item):
        return 1, [], [_value(items, False, "argv[at]")]
    fields = item_fields(items)
    packed, others = fields[: items.packed], fields[items.packed :]
    before = []
    offset = 0
    values = []
    if packed:
        names = ", ".join(name for name, _, _ in packed)
        pattern = ",".join(["([^,]*)"] * len(packed))
        before += [f"local {names} =", f'  match(argv[at], "^{pattern}$")']
        values += [f"{name} = {_value(kind, optional, name)}" for name, kind, optional in packed]
        offset = 1
    for name, kind, optional in others:
        values.append(f"{name} = {_value(kind, optional, _at('at', offset))}")
        offset += 1
    line = f"{{ {', '.join(values)} }}"
    if len(line) <= _ELEMENT_WIDTH:
        return offset, before, [line]
    return offset, before, ["{", *wrapped(values, "  "), "}"]
