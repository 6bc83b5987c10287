"""How a stored record is declared: the order, the separators and the types of its fields.

A declaration is a class under :func:`record`, and nothing else says which field stands where: the
client's codec is compiled from it here, and Lua's is generated (``rwf.protocol.lua_codec``).

A record is a text. Its first fields, the *head*, stand behind one another with a separator between
them, a comma where nothing else is said; each further one is a *section* behind a bar, of which the
last may hold anything. In a record without sections, all is head.

Evolution: a field is appended to the head, with a default (:func:`appended`), and is written only
where its value is another one. Readers ignore what stands behind the fields that they know, and
writers put it back: it is ``more``, which every record has. A field never changes its meaning, and
none is taken out.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar
from urllib.parse import quote, unquote

import orjson

from rwf.protocol.codecs import optional_int, reading

R = TypeVar("R", bound="Record")

Place = Literal["head", "tag", "section", "rest", "appended"]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """The type of a field: which characters its text may hold, and its Python value.

    ``characters`` is a character class of a Lua pattern, empty where all but separators are
    allowed; ``count`` is that pattern's quantifier.
    """

    characters: str
    count: str
    decode: Callable[[str], Any] | None = None
    encode: Callable[[Any], str] | None = None
    number: bool = False
    """Whether Lua uses it as a number; otherwise Lua only passes the text on."""
    large: bool = False
    """Whether the number is usually large."""
    letters: str = ""
    """For a field of counts, the letters before its numbers; each is a field in Lua."""


def _optional_text(number: int | None) -> str:
    return "" if number is None else str(number)


def _quoted(text: str) -> str:
    return quote(text, safe="").replace("~", "%7E")


Text = Annotated[str, Kind("", "*")]
"""Anything but separators."""
Digits = Annotated[int, Kind("%d", "+", int, str)]
"""A whole number, which Lua only passes on."""
OptionalDigits = Annotated[int | None, Kind("%d", "*", optional_int, _optional_text)]
"""A whole number that Lua only passes on, or nothing."""
OptionalSigned = Annotated[int | None, Kind("%-?%d", "*", optional_int, _optional_text)]
"""A whole number that may be negative, which Lua only passes on, or nothing."""
Number = Annotated[int, Kind("%d", "+", int, str, number=True)]
"""A whole number, in Lua too."""
Since = Annotated[int, Kind("%d", "*", lambda text: int(text or 0), lambda n: str(n or ""))]
"""Milliseconds since the insert, which Lua only passes on; nothing for that very time."""
Large = Annotated[int, Kind("%d", "+", int, str, number=True, large=True)]
"""A number in Lua too, with many digits."""
Stamp = Annotated[str, Kind("%d", "+")]
"""When, and in which order within a call: microseconds, then four digits."""
Hex = Annotated[str, Kind("%x", "*")]
"""Hexadecimal digits, or nothing."""
Word = Annotated[str, Kind("%w", "*")]
"""Letters and digits, or nothing."""
Quoted = Annotated[str, Kind("", "*", unquote, _quoted)]
"""Any text, percent-quoted."""
Flag = Annotated[bool, Kind("1", "?", lambda text: text == "1", lambda flag: "1" if flag else "")]
"""``1`` or nothing; a text in Lua."""
Names = Annotated[
    tuple[str, ...],
    Kind("", "*", lambda text: tuple(text.split(",")) if text else (), ",".join),
]
"""A section with names between commas."""
Json = Annotated[
    dict[str, Any], Kind("", "*", orjson.loads, lambda value: orjson.dumps(value).decode())
]
"""A section with a JSON object."""


def coded(codes: Mapping[Any, str], *, optional: bool = False) -> Kind:
    """One of some values, each of which has a letter; or nothing, where it is optional."""
    values: dict[str, Any] = {code: value for value, code in codes.items()}
    letters = dict(codes)
    if optional:
        values[""], letters[None] = None, ""
    count = "?" if optional else ""
    characters = f"[{''.join(codes.values())}]"
    return Kind(characters, count, values.__getitem__, letters.__getitem__)


def one_of(values: type[StrEnum]) -> Kind:
    """One of the values, by its name."""
    return Kind("[%l_]", "+", values, str)


def counted(codes: Mapping[Any, str]) -> Kind:
    """How many there are of each of some values, by their letters; those of which there are none
    are left out."""
    values = {code: value for value, code in codes.items()}
    found = re.compile("([a-z])([0-9]+)").findall

    def decode(text: str) -> dict[Any, int]:
        counts = dict.fromkeys(codes, 0)
        for code, count in found(text):
            counts[values[code]] = int(count)
        return counts

    def encode(counts: Mapping[Any, int]) -> str:
        return "".join(f"{code}{counts[value]}" for value, code in codes.items() if counts[value])

    return Kind("", "*", decode, encode, letters="".join(codes.values()))


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a record."""

    name: str
    place: Place
    before: str
    """The text written before it: a separator or a tag."""
    kind: Kind
    default: Any
    """The value of a field that is missing."""
    empty: str
    """The text that an empty field stands for."""
    always: bool
    """Whether a tag is written even when its field is empty."""

    @property
    def lua(self) -> str:
        """Its name in Lua, without the underscore that a Python keyword needs."""
        return self.name.rstrip("_")

    @property
    def default_text(self) -> str:
        """The default as it would be written."""
        return str(self.kind.encode(self.default)) if self.kind.encode else str(self.default)


class Record:
    """Base of all records, which :func:`record` makes of its subclasses."""

    __slots__ = ()

    record_name: ClassVar[str]
    layout: ClassVar[Layout]
    more: str
    """Fields that a later release has appended, as text, with the separator before them."""

    @classmethod
    def parse(cls, stored: bytes) -> Self:
        """A stored text, taken apart; raises RecordUnreadable."""
        raise NotImplementedError

    @classmethod
    def of(cls, text: str) -> Self:
        """A text that was read already, taken apart; raises RecordUnreadable."""
        raise NotImplementedError

    def text(self) -> str:
        """The record as it is stored."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, slots=True)
class Peek:
    """Some fields that are read of a record's text alone, which costs less than taking it apart."""

    name: str
    fields: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Lead:
    """The head up to a field, which Lua reads and writes apart from all behind it, the ``tail``:
    of texts in which some fields have these values."""

    last: str
    values: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """A record's fields, in the order of its text."""

    name: str
    separator: str
    fields: tuple[Field, ...]
    together: str | None
    """The first of those fields at the head's end that are all written or, where all have their
    defaults, none."""
    keeps: str | None
    """Lua's name for all that follows the head, where Lua keeps that as one text."""
    beside: tuple[str, ...]
    """The sections that Lua reads beside that text."""
    peeks: tuple[Peek, ...]
    sets: tuple[str, ...]
    """The fields that Lua sets in a record's text alone."""
    lead: Lead | None

    @property
    def head(self) -> list[Field]:
        """The fields that every text has before its sections."""
        return [field for field in self.fields if field.place in ("head", "tag")]

    @property
    def required(self) -> list[Field]:
        """The head's fields that are always written."""
        return self.head[: self._cut]

    @property
    def sparse(self) -> list[Field]:
        """The head's fields that are written together, or not at all."""
        return self.head[self._cut :]

    @property
    def _cut(self) -> int:
        names = [field.name for field in self.head]
        return len(names) if self.together is None else names.index(self.together)

    @property
    def appended(self) -> list[Field]:
        """The fields that older releases do not write."""
        return [field for field in self.fields if field.place == "appended"]

    @property
    def sections(self) -> list[Field]:
        """The fields behind the head."""
        return [field for field in self.fields if field.place in ("section", "rest")]

    @property
    def bar(self) -> str:
        """The separator between the head and the first section; empty without sections."""
        return self.sections[0].before if self.sections else ""

    @property
    def growth(self) -> str:
        """The separator before an appended field: a semicolon where it also begins sections."""
        return ";" if self.bar == self.separator else self.separator

    @property
    def form(self) -> str:
        """The record's form in one line."""
        return "".join(f"{field.before}{field.lua}" for field in self.fields)

    def field(self, name: str) -> Field:
        """The field of this name."""
        (found,) = (field for field in self.fields if field.name == name)
        return found


RECORDS: Final[dict[str, type[Record]]] = {}
"""All declared records by name."""


def section(*, empty: str = "") -> Any:
    """Declares a field behind a bar. ``empty``: what an empty text stands for."""
    return dataclasses.field(metadata={"place": "section", "before": "|", "empty": empty})


def rest(before: str = "|") -> Any:
    """Declares the last field, which may hold anything."""
    return dataclasses.field(metadata={"place": "rest", "before": before})


def tag(before: str, *, always: bool = False) -> Any:
    """Declares a field that stands behind the last one, after a sign of its own; where it is not
    ``always`` written, an empty one is not, nor the sign."""
    return dataclasses.field(metadata={"place": "tag", "before": before, "always": always})


def appended(*, default: Any, kw_only: Literal[True] = True) -> Any:
    """Declares a field that a later release has appended; texts without it have the default."""
    metadata = {"place": "appended", "default": default}
    return dataclasses.field(default=default, kw_only=kw_only, metadata=metadata)


@typing.dataclass_transform(field_specifiers=(section, rest, tag, appended))
def record(
    name: str,
    *,
    separator: str = ",",
    together: tuple[str, Mapping[str, Any]] | None = None,
    keeps: str | None = None,
    beside: tuple[str, ...] = (),
    peeks: Mapping[str, tuple[str, ...]] = types.MappingProxyType({}),
    sets: tuple[str, ...] = (),
    lead: Lead | None = None,
) -> Callable[[type[R]], type[R]]:
    """Declares a record; raises TypeError for fields that cannot be one.

    ``together``: the first of the fields that are all written or, where all have their defaults,
    none; with these. ``keeps``, ``beside``, ``peeks``, ``sets`` and ``lead`` are what Lua's side is
    to have, as in :class:`Layout`; of the peeks Python has ``NAME_of``.
    """

    def declare(cls: type[R]) -> type[R]:
        if name in RECORDS:
            raise TypeError(f"there is a record named {name!r} already")
        cls.__annotations__["more"] = "str"
        cls.more = ""
        declared: Any = dataclasses.dataclass(slots=True)(cls)
        first, defaults = together or (None, {})
        declared.record_name = name
        declared.layout = Layout(
            name,
            separator,
            _fields(declared, separator, defaults),
            first,
            keeps,
            beside,
            tuple(Peek(each, fields) for each, fields in peeks.items()),
            sets,
            lead,
        )
        _check(declared.layout)
        _compile(declared)
        RECORDS[name] = declared
        made: type[R] = declared
        return made

    return declare


def _fields(declared: Any, separator: str, defaults: Mapping[str, Any]) -> tuple[Field, ...]:
    hints = typing.get_type_hints(declared, include_extras=True)
    found: list[Field] = []
    for each in dataclasses.fields(declared):
        if each.name == "more":
            continue
        kinds = [one for one in typing.get_args(hints[each.name])[1:] if isinstance(one, Kind)]
        if len(kinds) != 1:
            raise TypeError(f"{declared.__name__}.{each.name} is of no kind that can be stored")
        place: Place = each.metadata.get("place", "head")
        before = each.metadata.get("before", separator) if found else ""
        default = each.metadata.get("default", defaults.get(each.name))
        empty, always = each.metadata.get("empty", ""), each.metadata.get("always", True)
        found.append(Field(each.name, place, before, kinds[0], default, empty, always))
    growth = Layout("", separator, tuple(found), None, None, (), (), (), None).growth
    return tuple(
        dataclasses.replace(field, before=growth) if field.place == "appended" else field
        for field in found
    )


def _check(layout: Layout) -> None:
    ordered = [*layout.head, *layout.appended, *layout.sections]
    if list(layout.fields) != ordered or not layout.head or layout.fields[0].place != "head":
        raise TypeError(f"{layout.name}: the head, what was appended to it, and sections, in order")
    if any(field.place == "rest" for field in layout.fields[:-1]):
        raise TypeError(f"{layout.name}: what may hold anything stands last")
    names = [field.name for field in layout.fields]
    for peek in layout.peeks:
        if list(peek.fields) != sorted(peek.fields, key=names.index):
            raise TypeError(f"{layout.name}: {peek.name} is read in the order of the text")


# --- Python's codec: compiled from the layout, as dataclasses are, and as quick as written by hand


def _compile(declared: Any) -> None:
    layout: Layout = declared.layout
    names: dict[str, Any] = {}
    for number, field in enumerate(layout.fields):
        names[f"decode_{number}"], names[f"encode_{number}"] = field.kind.decode, field.kind.encode
        names[f"default_{number}"] = field.default
    lines = [*_parser("parse", layout, ".decode()"), *_parser("of", layout, ""), *_writer(layout)]
    for peek in layout.peeks:
        lines += _peeker(layout, peek)
    if layout.together:
        commas = sum(field.place == "head" for field in layout.required)
        lines.append(
            f"def is_short(text): return text.count({layout.separator.encode()!r}) == {commas}"
        )
    exec("\n".join(lines), names)  # noqa: S102 - our own text, as in dataclasses
    declared.parse = classmethod(reading(names["parse"]))
    declared.of = classmethod(reading(names["of"]))
    declared.text = names["text"]
    if layout.together:
        declared.is_short = staticmethod(names["is_short"])
    for peek in layout.peeks:
        setattr(declared, f"{peek.name}_of", staticmethod(reading(names[f"peek_{peek.name}"])))


def _parser(name: str, layout: Layout, decoded: str) -> Iterable[str]:
    """A function that makes a record of a text. It splits the head to ``f``, and sections to
    ``s0`` and so on."""
    yield f"def {name}(cls, text):"
    count, separator, growth = len(layout.sections), layout.separator, layout.growth
    if layout.bar == separator:
        # The head and its only section have the separator between them, too.
        yield f"    *f, s0 = text{decoded}.split({separator!r}, {len(layout.head)})"
        yield f"    f[-1:] = f[-1].split({growth!r})"
    else:
        limit = count if count and layout.sections[-1].place == "rest" else -1
        names = "".join(f", s{number}" for number in range(count))
        split = f".split({layout.bar!r}, {limit})" if count else ""
        yield f"    head{names} = text{decoded}{split}"
        yield f"    f = head.split({separator!r})"
    yield from _head_values(layout)
    values = [f"v{number}" for number in range(len(layout.fields))]
    for number, field in enumerate(layout.fields):
        if field in layout.sections:
            part = f"s{layout.sections.index(field)}"
            part = f"({part} or {field.empty!r})" if field.empty else part
            yield f"    v{number} = {_decoded(number, field, part)}"
        elif field.place == "appended":
            values[number] = ""
    given = [value for value in values if value]
    named = [
        f"{field.name}=v{number}"
        for number, field in enumerate(layout.fields)
        if field.place == "appended"
    ]
    yield f"    return cls({', '.join([*given, 'more', *named])})"


def _decoded(number: int, field: Field, part: str) -> str:
    return f"decode_{number}({part})" if field.kind.decode else part


def _head_values(layout: Layout) -> Iterable[str]:
    at = 0
    required = len(layout.required)
    for number, field in enumerate([*layout.head, *layout.appended]):
        if field.place == "tag":
            yield f"    v{number - 1}, _, t = f[{at - 1}].partition({field.before!r})"
            yield f"    v{number} = {_decoded(number, field, 't')}"
            before = layout.fields[number - 1]
            if before.kind.decode:
                yield f"    v{number - 1} = decode_{number - 1}(v{number - 1})"
            continue
        followed = number + 1 < len(layout.fields) and layout.fields[number + 1].place == "tag"
        value = _decoded(number, field, f"f[{at}]")
        if number == required and layout.together:
            # Where none of these is written, the separator before them is, and nothing else.
            yield f"    if len(f) == {at + 1} and not f[{at}]: del f[{at}]"
            yield f"    if {at} < len(f) < {at + len(layout.sparse)}:"
            yield "        raise ValueError"
        if number >= required and not followed:
            yield f"    v{number} = {value} if len(f) > {at} else default_{number}"
        elif not followed:
            yield f"    v{number} = {value}"
        at += 1
    growth = layout.growth
    yield f"    more = '' if len(f) <= {at} else {growth!r} + {growth!r}.join(f[{at}:])"


def _encoded(number: int, field: Field) -> str:
    """The expression for a field in an f-string; the usual kinds need no call."""
    value = f"self.{field.name}"
    if field.kind.encode in (None, str):
        text = value
    elif field.kind.encode is _optional_text:
        text = f"('' if {value} is None else {value})"
    else:
        text = f"encode_{number}({value})"
    return f"('' if {value} == {field.empty!r} else {text})" if field.empty else text


def _writer(layout: Layout) -> Iterable[str]:
    yield "def text(self):"
    yield "    end = self.more"
    written = {
        field.name: f"{field.before}{{{_encoded(number, field)}}}"
        for number, field in enumerate(layout.fields)
    }
    differs = {
        field.name: f"self.{field.name} != default_{number}"
        for number, field in enumerate(layout.fields)
    }
    for field in reversed(layout.appended):
        yield f"    if end or {differs[field.name]}:"
        yield f'        end = f"""{written[field.name]}{{end}}"""'
    if layout.sparse:
        names = [field.name for field in layout.sparse]
        yield f"    if end or {' or '.join(differs[name] for name in names)}:"
        yield f'        end = f"""{"".join(written[name] for name in names)}{{end}}"""'
        yield f"    else: end = {layout.separator!r}"
    text = ""
    for field in layout.required:
        if field.place == "tag" and not field.always:
            number = layout.fields.index(field)
            tagged = f"{field.before!r} + {_encoded(number, field)}"
            text += f"{{{tagged} if self.{field.name} else ''}}"
        else:
            text += written[field.name]
    text += "{end}" + "".join(written[field.name] for field in layout.sections)
    yield f'    return f"""{text}"""'


def _peeker(layout: Layout, peek: Peek) -> Iterable[str]:
    """A function that takes some fields out of a stored text, and leaves them bytes."""
    yield f"def peek_{peek.name}(text):"
    heads = [field for field in layout.head if field.place == "head"]
    wanted = [layout.field(name) for name in peek.fields]
    in_head = [heads.index(field) for field in wanted if field in heads]
    in_sections = [layout.sections.index(field) for field in wanted if field in layout.sections]
    bar, separator = layout.bar.encode(), layout.separator.encode()
    if bar and bar != separator:
        last = in_sections and layout.sections[max(in_sections)].place == "rest"
        most = max(in_sections, default=-1) + (1 if last else 2)
        yield f"    s = text.split({bar!r}, {most})"
        yield "    head = s[0]"
    else:
        yield "    head = text"
    values = []
    for field in wanted:
        if field in heads:
            value = f"f[{heads.index(field)}]"
            if field == layout.head[-1] and layout.growth != layout.separator:
                value += f".partition({layout.growth.encode()!r})[0]"
        elif field.place == "tag":
            place = sum(one.place == "head" for one in layout.head[: layout.head.index(field)])
            in_head.append(place - 1)
            value = f"f[{place - 1}].partition({field.before.encode()!r})[2]"
        elif bar == separator:
            value = f"text.split({separator!r}, {len(heads)})[{len(heads)}]"
        else:
            value = f"s[{layout.sections.index(field) + 1}]"
        values.append(f"({value} or {field.empty.encode()!r})" if field.empty else value)
    if in_head:
        yield f"    f = head.split({separator!r}, {max(in_head) + 1})"
    yield f"    return {', '.join(values)}"
