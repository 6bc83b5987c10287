"""Generates ``lua/lib/codec.lua``: how each record is read from its text, and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rwf.protocol.lua_text import WIDTH, wrapped
from rwf.protocol.record import Field, Record, parts


def codec_lua(records: Iterable[type[Record]]) -> Iterator[str]:
    """The lines of a library module with ``read_NAME`` and ``write_NAME`` for each record."""
    yield "local M = {}"
    for record in records:
        yield ""
        yield from _reader(record)
        yield ""
        yield from _writer(record)
    yield ""
    yield "return M"


def _reader(record: type[Record]) -> Iterator[str]:
    commas, others = parts(record.layout)
    required = [field for field in commas if not field.appended]
    appended = [field for field in commas if field.appended]
    names = ", ".join([*(f.name for f in required), "more", *(f.name for f in others)])
    yield f"-- {_layout(record)}"
    yield f"function M.read_{record.record_name}(text)"
    yield f"  local {names} ="
    yield f'    match(text, "{_pattern(required, others)}")'
    yield f"  if not {required[0].name} then"
    yield "    error(states.UNREADABLE)"
    yield "  end"
    for field in appended:
        yield f"  local {field.name}, {field.name}_more = " + (
            f'match(more, "^,{field.shape.pattern(",|", lua=True)}(.*)$")'
        )
        yield f"  more = {field.name}_more or more"
    yield "  return {"
    yield from wrapped((f"{f.name} = {_value(f)}" for f in record.layout), "    ")
    yield "    more = more,"
    yield "  }"
    yield "end"


def _writer(record: type[Record]) -> Iterator[str]:
    commas, others = parts(record.layout)
    pieces = [_written(field) for field in commas]
    text = ' .. "," .. '.join(pieces) + " .. r.more"
    text += "".join(f' .. "|" .. {_written(field)}' for field in others)
    yield f"function M.write_{record.record_name}(r)"
    first, *rest = _broken(text)
    yield f"  return {first}"
    yield from (f"    {line}" for line in rest)
    yield "end"


def _layout(record: type[Record]) -> str:
    """The record's form in one line, for whoever reads the Lua."""
    commas, others = parts(record.layout)
    return ",".join(field.name for field in commas) + "".join(f"|{f.name}" for f in others)


def _pattern(required: list[Field], others: list[Field]) -> str:
    groups = ",".join(field.shape.pattern(",|", lua=True) for field in required)
    tail = "".join(
        "|(.*)" if field.before == "rest" else f"|{field.shape.pattern('|', lua=True)}"
        for field in others
    )
    return f"^{groups}(,?[^|]*){tail}$"


def _value(field: Field) -> str:
    text = f"tonumber({field.name})" if field.kind is int else field.name
    if field.appended and field.default is not None:
        return f"{text} or {_literal(field.default)}"
    return text


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _written(field: Field) -> str:
    if field.kind is int:
        return f"integer.text(r.{field.name})"
    return f"r.{field.name}"


def _broken(text: str) -> list[str]:
    """A chain of concatenations, cut into lines before an operator."""
    lines, line = [], ""
    for piece in text.split(" .. "):
        joined = f"{line} .. {piece}" if line else piece
        if len(joined) > WIDTH:
            lines.append(line)
            joined = f".. {piece}"
        line = joined
    return [*lines, line]
