"""How a stored record is declared: the order, the separators and the types of its fields.

A declaration is a class under :func:`record`, and nothing else says which field stands where: the
client's codec is here, and Lua's is generated from the same fields (``rwf.protocol.lua_records``).

A record is a text. Its first fields are separated by commas; each field declared with
:func:`section` begins after a bar; one declared with :func:`rest`, the last, may hold anything.

Evolution: a new field is appended to those between commas, with a default. Readers ignore those
that they do not know, and writers keep them: they are ``more``, which every record has. A field
never changes its meaning, and none is taken out.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from rwf.protocol.codecs import reading

R = TypeVar("R", bound="Record")


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What a field's text may look like: a character class, as Lua and Python write it, and how
    many of these."""

    lua: str
    python: str
    count: str

    def pattern(self, stop: str, *, lua: bool) -> str:
        """The field as a group of a pattern; ``stop`` are the separators that may follow."""
        kind = (self.lua if lua else self.python) or f"[^{stop}]"
        return f"({kind}{self.count})"


Text = Annotated[str, Shape("", "", "*")]
"""Anything but the separators that may follow."""
Code = Annotated[str, Shape("%a", "[A-Za-z]", "?")]
"""One letter, or nothing."""
Digits = Annotated[str, Shape("%d", "[0-9]", "*")]
"""A number that is only passed on, or nothing."""
Number = Annotated[int, Shape("%d", "[0-9]", "+")]
"""A number that both sides reckon with."""
OptionalNumber = Annotated[int | None, Shape("%d", "[0-9]", "*")]
"""The same, or nothing: None, and nil in Lua."""
Flag = Annotated[bool, Shape("1", "1", "?")]
"""``1`` or nothing; a text in Lua."""

_COMMA, _BAR, _REST = ",", "|", "rest"


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, what stands before it, its shape and type; and whether records of older
    releases may lack it, which then have the default."""

    name: str
    before: str
    shape: Shape
    kind: type
    appended: bool
    default: Any

    def decode(self, text: str | None) -> Any:
        """The value of a text; that of None, for a field that an older release did not write, is
        the default."""
        if text is None:
            return self.default
        if self.kind is int:
            return int(text) if text else None
        return text == "1" if self.kind is bool else text


def _encoded(value: Any) -> str:
    if value is None or value is False:
        return ""
    return "1" if value is True else str(value)


class Record:
    """Base of all records, which :func:`record` makes of its subclasses."""

    record_name: ClassVar[str]
    layout: ClassVar[tuple[Field, ...]]
    _pattern: ClassVar[re.Pattern[str]]
    more: str

    @classmethod
    @reading
    def parse(cls, text: bytes) -> Self:
        """A stored text, taken apart; raises RecordUnreadable."""
        match = cls._pattern.fullmatch(text.decode())
        if match is None:
            raise ValueError(f"no {cls.record_name}")
        more, *groups = _reordered(cls, match.groups())
        values = (field.decode(group) for field, group in zip(cls.layout, groups, strict=True))
        return cls(*values, more)  # type: ignore[call-arg]

    def text(self) -> str:
        """The record as it is stored."""
        commas, others = parts(self.layout)
        head = ",".join(_encoded(getattr(self, field.name)) for field in commas)
        tail = "".join(f"|{_encoded(getattr(self, field.name))}" for field in others)
        return head + self.more + tail


RECORDS: Final[dict[str, type[Record]]] = {}
"""All declared records by name."""


def section() -> Any:
    """Declares a field that begins after a bar."""
    return dataclasses.field(metadata={"before": _BAR})


def rest() -> Any:
    """Declares the last field, after a bar, which may hold anything."""
    return dataclasses.field(metadata={"before": _REST})


@typing.dataclass_transform(frozen_default=True, field_specifiers=(section, rest))
def record(name: str) -> Callable[[type[R]], type[R]]:
    """Declares a record; raises TypeError for fields that cannot be one."""

    def declare(cls: type[R]) -> type[R]:
        if name in RECORDS:
            raise TypeError(f"there is a record named {name!r} already")
        # Behind all others, so that these are its leading arguments.
        cls.__annotations__["more"] = str
        cls.more = ""
        declared = dataclasses.dataclass(frozen=True, slots=True)(cls)
        declared.record_name = name
        declared.layout = _layout(declared)
        declared._pattern = re.compile("".join(_python_pattern(declared.layout)), re.DOTALL)
        RECORDS[name] = declared
        return declared

    return declare


def _layout(declared: Any) -> tuple[Field, ...]:
    hints = typing.get_type_hints(declared, include_extras=True)
    fields = []
    for field in dataclasses.fields(declared):
        if field.name == "more":
            continue
        hint = hints[field.name]
        if typing.get_origin(hint) is not Annotated:
            raise TypeError(f"{declared.record_name}.{field.name} has no shape")
        kind, shape = typing.get_args(hint)
        if isinstance(kind, types.UnionType):
            kind = int
        appended = field.default is not dataclasses.MISSING
        default = field.default if appended else None
        before = field.metadata.get("before", _COMMA)
        fields.append(Field(field.name, before, shape, kind, appended, default))
    commas, others = parts(fields)
    if [*commas, *others] != fields or not commas:
        raise TypeError(f"{declared.record_name}: fields between commas stand before all others")
    return tuple(fields)


def parts(layout: Iterable[Field]) -> tuple[list[Field], list[Field]]:
    """The fields between commas, and those after a bar."""
    commas = [field for field in layout if field.before == _COMMA]
    return commas, [field for field in layout if field.before != _COMMA]


def _python_pattern(layout: tuple[Field, ...]) -> Iterator[str]:
    """A pattern in which fields with a default may be missing; the first group behind those
    between commas is ``more``."""
    commas, others = parts(layout)
    optional = 0
    for number, field in enumerate(commas):
        group = field.shape.pattern(",|", lua=False)
        if field.appended:
            yield f"(?:,{group}"
            optional += 1
        else:
            yield f",{group}" if number else group
    yield ")?" * optional
    yield "((?:,[^|]*)?)"
    for field in others:
        yield r"\|(.*)" if field.before == _REST else rf"\|{field.shape.pattern('|', lua=False)}"


def _reordered(cls: type[Record], groups: tuple[str | None, ...]) -> list[str | None]:
    """The groups of a match with ``more`` first."""
    commas, _ = parts(cls.layout)
    at = len(commas)
    return [groups[at] or "", *groups[:at], *groups[at + 1 :]]
