"""Each declared record: both codecs agree on it, and keep fields that a later release appended."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from rwf import RecordUnreadable
from rwf.protocol import record as language
from rwf.protocol.lua_codec import codec_lua
from rwf.protocol.lua_states import states_lua
from rwf.protocol.record import Field, Kind, Record
from rwf.protocol.stored import RECORDS
from tests.releases.grown import grow

lupa = pytest.importorskip("lupa.lua51")

PRELUDE = """
local match, sub, byte, format = string.match, string.sub, string.byte, string.format
local integer = { text = function(number) return format("%d", number) end }
local states = (function()
STATES
end)()
return (function()
CODEC
end)()
"""

PLAIN = some.text("abcXYZ019_-", max_size=12)
ANYTHING = some.text(some.characters(exclude_categories=["Cs"]), max_size=12)
DIGITS = some.integers(0, 2**53).map(str)
TEXTS: Mapping[str, some.SearchStrategy[str]] = {
    "*": PLAIN,
    "+": PLAIN.filter(bool),
    "%d+": DIGITS,
    "%d*": some.one_of(some.just(""), DIGITS),
    "%-?%d*": some.one_of(some.just(""), some.integers(-(2**53), 2**53).map(str)),
    "[%d+]*": some.sampled_from(["", "1", "2+17"]),
    "[%d:]+": some.just("2:0:17"),
    "%x*": some.sampled_from(["", "00ab", "77"]),
    "%w*": some.sampled_from(["", "at3", "0"]),
    "%a": some.sampled_from("cfx"),
}
"""Texts of kinds of fields, by their characters and counts in Lua's patterns."""


def kind_of(hint: Any) -> Kind:
    kind: Kind = typing.get_args(hint)[1]
    return kind


VALUES: Mapping[int, some.SearchStrategy[Any]] = {
    id(kind_of(language.Quoted)): ANYTHING,
    id(kind_of(language.Names)): some.lists(PLAIN.filter(bool)).map(tuple),
    id(kind_of(language.Json)): some.dictionaries(ANYTHING, some.one_of(ANYTHING, DIGITS)),
}
"""Values of kinds that are no text to Python."""


def codec_of(*records: type[Record]) -> Any:
    """Lua's codec for these records."""
    states, codec = "\n".join(states_lua()), "\n".join(codec_lua(records))
    text = PRELUDE.replace("STATES", states).replace("CODEC", codec)
    return lupa.LuaRuntime(encoding="utf-8").execute(text)


CODEC = codec_of(*RECORDS.values())
EVERY = pytest.mark.parametrize("declared", list(RECORDS.values()), ids=list(RECORDS))


def values_of(field: Field) -> some.SearchStrategy[Any]:
    """Values that the field may have."""
    kind, decode = field.kind, cast(Any, field.kind.decode)
    if id(kind) in VALUES:
        return VALUES[id(kind)]
    if isinstance(decode, type) and issubclass(decode, StrEnum):
        return some.sampled_from(decode)
    if kind.letters:
        names = list(decode(""))
        return some.fixed_dictionaries(dict.fromkeys(names, some.integers(0, 3000)))
    texts = TEXTS.get(kind.characters + kind.count)
    if texts is None:
        letters = list(kind.characters.strip("[]"))
        texts = some.sampled_from(["", *letters] if kind.count == "?" else letters)
    if field.place == "rest":
        texts = ANYTHING
    texts = texts.map(lambda text: text or field.empty)
    return texts.map(decode) if decode else texts


def records_of(declared: type[Record], *more: str) -> some.SearchStrategy[Any]:
    make: Any = declared
    fields = {field.name: values_of(field) for field in declared.layout.fields}
    return some.builds(make, **fields, more=some.sampled_from(["", *more]))


def through_lua(codec: Any, declared: type[Record], text: str) -> str:
    """The text as Lua writes it after reading it."""
    name = declared.layout.name
    written: str = codec[f"write_{name}"](codec[f"read_{name}"](text))
    return written


def in_python(field: Field, text: Any) -> Any:
    """A field's value as Python reads it from its text."""
    if field.kind.number:
        text = str(int(text))
    return field.kind.decode(text) if field.kind.decode else text


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@EVERY
@settings(max_examples=15, deadline=None)
@given(data=some.data())
def test_a_record_goes_through_lua_and_comes_back(declared: type[Record], data: Any) -> None:
    growth = declared.layout.growth
    made = data.draw(records_of(declared, f"{growth}later{growth}"))
    text = made.text()
    assert declared.parse(text.encode()) == made
    assert through_lua(CODEC, declared, text) == text


@EVERY
@settings(max_examples=10, deadline=None)
@given(data=some.data())
def test_lua_reads_what_python_wrote(declared: type[Record], data: Any) -> None:
    made = data.draw(records_of(declared))
    layout = declared.layout
    read = CODEC[f"read_{layout.name}"](made.text())
    for field in layout.fields:
        if field.kind.letters:
            counts = "".join(f"{letter}{int(read[letter])}" for letter in field.kind.letters)
            assert in_python(field, counts) == getattr(made, field.name)
        elif field.place not in ("section", "rest") or not layout.keeps:
            assert in_python(field, read[field.lua]) == getattr(made, field.name)


@EVERY
@settings(max_examples=10, deadline=None)
@given(data=some.data())
def test_a_part_that_is_read_alone_is_that_of_the_whole(declared: type[Record], data: Any) -> None:
    layout = declared.layout
    made = data.draw(records_of(declared, f"{layout.growth}later"))
    text = made.text()
    short = layout.together and made.is_short(text.encode())
    for peek in layout.peeks:
        fields = [layout.field(name) for name in peek.fields]
        expected = [getattr(made, name) for name in peek.fields]
        if not short or not set(fields) & set(layout.sparse):
            found = as_tuple(getattr(declared, f"{peek.name}_of")(text.encode()))
            texts = [value.decode() for value in found]
            assert list(map(in_python, fields, texts)) == expected
        if not set(fields) & set(layout.sparse):
            found = as_tuple(CODEC[f"{layout.name}_{peek.name}"](text))
            texts = [
                field.empty if value == "" else value
                for field, value in zip(fields, found, strict=True)
            ]
            assert list(map(in_python, fields, texts)) == expected
    for name in layout.sets:
        field, value = layout.field(name), getattr(made, name)
        encoded = field.kind.encode(value) if field.kind.encode else value
        again = CODEC[f"set_{layout.name}_{name}"](text, encoded)
        assert again == text


@EVERY
def test_what_is_no_such_record_is_refused(declared: type[Record]) -> None:
    for text in ("\x00" * 3, ""):
        with pytest.raises(RecordUnreadable):
            declared.parse(text.encode())
        with pytest.raises(lupa.LuaError, match="corrupt record"):
            CODEC[f"read_{declared.layout.name}"](text)


# --- a later release


@cache
def releases(name: str) -> tuple[Any, Any, Any]:
    """The record of a later release, and of one after that; and Lua's codec for the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "RECORDS", dict(RECORDS))
        later = grow(RECORDS[name])
        return later, grow(later, "newest"), codec_of(later)


@EVERY
@settings(max_examples=10, deadline=None)
@given(data=some.data())
def test_releases_read_each_other_and_keep_what_was_appended(
    declared: type[Record], data: Any
) -> None:
    later, last, codec = releases(declared.layout.name)
    names = [field.name for field in declared.layout.fields]
    made = data.draw(records_of(declared))
    text = made.text()
    # Text of the older release is read with the default, and written unchanged.
    grown = later.parse(text.encode())
    assert (grown.later, grown.text()) == ("", text)
    assert through_lua(codec, later, text) == text
    # Text of the later one is read without its field, which is kept.
    fuller = later(**{name: getattr(made, name) for name in names}).text()
    kept = declared.parse(fuller.encode())
    assert [getattr(kept, name) for name in names] == [getattr(made, name) for name in names]
    assert kept.text() == fuller
    assert through_lua(CODEC, declared, fuller) == fuller
    assert through_lua(codec, later, fuller) == fuller
    # Two such fields, of which only the last has a value.
    fullest = last(**{name: getattr(made, name) for name in names}, later="").text()
    for each in (declared, later):
        assert each.parse(fullest.encode()).text() == fullest
        assert through_lua(CODEC if each is declared else codec, each, fullest) == fullest
    again = last.parse(fullest.encode())
    assert (again.later, again.newest) == ("", "l8r")
