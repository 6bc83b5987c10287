"""Generates ``lua/lib/codec.lua``: how each stored record is read from its text, and written.

A reader makes one table of one match; what a later release has appended is ``more`` in it, or
stands at the beginning of what Lua keeps as one text anyway.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Final

from rwf.protocol.lua_text import WIDTH, wrapped
from rwf.protocol.record import Field, Layout, Lead, Peek, Record

_SHARED: Final = {
    "match",
    "find",
    "sub",
    "byte",
    "format",
    "floor",
    "max",
    "min",
    "command",
    "next",
}

_NAME: Final = re.compile(r"^function M\.(\w+)", re.MULTILINE)

_NUMBER: Final = """\
-- Texts as numbers; the small ones are kept, as reading one costs as much as a dozen look-ups.
local NUMBERS = { [""] = 0 }

local function to_number(digits)
  local found = NUMBERS[digits]
  if not found then
    found = digits + 0
    if found < 1000 then
      NUMBERS[digits] = found
    end
  end
  return found
end"""


# How many different ones are kept: what Lua keeps, each of its collections walks.
_COUNTS_KEPT: Final = 100


def _counted(letters: str) -> Iterator[str]:
    """A function that takes counts apart."""
    pattern = "".join(f"{letter}?(%d*)" for letter in letters)
    yield "-- Counts by their letters. Few are different, and these are kept: to take them apart"
    yield "-- costs as much as all else of a header."
    yield "local COUNTS, counts_length = {}, 0"
    yield ""
    yield "local function to_counts(text)"
    yield "  local found = COUNTS[text]"
    yield "  if found then"
    yield "    return found"
    yield "  end"
    yield f"  local {', '.join(letters)} ="
    yield f'    match(text, "^{pattern}$")'
    yield f"  if not {letters[0]} then"
    yield "    error(states.UNREADABLE)"
    yield "  end"
    yield "  found = {"
    yield from wrapped([f"{letter} = to_number({letter})" for letter in letters], "    ")
    yield "  }"
    yield f"  if counts_length == {_COUNTS_KEPT} then"
    yield "    COUNTS, counts_length = {}, 0"
    yield "  end"
    yield "  COUNTS[text], counts_length = found, counts_length + 1"
    yield "  return found"
    yield "end"


def codec_lua(records: Iterable[type[Record]], used: Container[str] | None = None) -> Iterator[str]:
    """The lines of a library module with what records' declarations offer, as far as it is used:
    the names of functions, all where there are none."""
    patterns: list[str] = []
    body = list(_hoisted(_body(records, used), patterns))
    yield "local M = {}"
    yield ""
    yield from _NUMBER.splitlines()
    yield ""
    yield from patterns
    for letters in _letters(records):
        yield ""
        yield from _counted(letters)
    yield from body
    yield ""
    yield "return M"


def _letters(records: Iterable[type[Record]]) -> Iterator[str]:
    for record in records:
        yield from (field.kind.letters for field in record.layout.fields if field.kind.letters)


def _body(records: Iterable[type[Record]], used: Container[str] | None) -> Iterator[str]:
    for record in records:
        layout = record.layout
        functions = [
            lines
            for lines in map(list, _functions(layout))
            if used is None or _NAME.findall("\n".join(lines))[0] in used
        ]
        if functions:
            yield ""
            yield from _described(layout)
        for number, lines in enumerate(functions):
            yield from [""] if number else []
            yield from lines


def _functions(layout: Layout) -> Iterator[Iterator[str]]:
    yield _reader(layout)
    yield _writer(layout)
    sparse = {field.name for field in layout.sparse}
    for peek in layout.peeks:
        if sparse.isdisjoint(peek.fields):
            yield _peeker(layout, peek)
    for name in layout.sets:
        yield _setter(layout, layout.field(name))
    if layout.lead:
        yield _lead_reader(layout, layout.lead)
        yield _lead_writer(layout, layout.lead)


def _described(layout: Layout) -> Iterator[str]:
    line = f"-- {layout.name}:"
    for word in re.split(r"(?<=[,;])", layout.form):
        if len(line) + len(word) > WIDTH:
            yield line
            line = "--  "
        line += word if line.endswith((",", ";")) else f" {word}"
    yield line


def _hoisted(lines: Iterable[str], patterns: list[str]) -> Iterator[str]:
    """The lines with patterns that are too long for one as locals, which are put together once."""
    for line in lines:
        found = re.search(r'"\^[^"]*"', line)
        if found is None or len(line) <= WIDTH:
            yield line
            continue
        name = f"PATTERN_{len(patterns) + 1}"
        text = found[0][1:-1]
        pieces = [text[at : at + WIDTH - 8] for at in range(0, len(text), WIDTH - 8)]
        patterns.append(f"local {name} =\n  " + "\n  .. ".join(f'"{piece}"' for piece in pieces))
        yield line.replace(found[0], name)


# --- patterns


def _characters(layout: Layout, field: Field) -> str:
    """The characters that the field's text may hold, as a class of a Lua pattern."""
    if field.kind.characters:
        return field.kind.characters
    if field.place == "rest":
        return "."
    if field.place == "section":
        return "[^|]"
    # The fewer characters, the quicker: only the last may be followed by others than a separator.
    stops, head = {layout.separator}, layout.head
    if field.place == "appended" or field == layout.required[-1]:
        stops |= {layout.growth, layout.bar} - {""}
    if field in head and (behind := head[head.index(field) + 1 :]) and behind[0].place == "tag":
        stops.add(behind[0].before)
    return f"[^{''.join(sorted(stops))}]"


def _pattern(layout: Layout, field: Field, *, captured: bool = True) -> str:
    text = f"{_characters(layout, field)}{field.kind.count}"
    return f"({text})" if captured else text


def _before(field: Field) -> str:
    return f"{field.before}?" if field.place == "tag" and not field.always else field.before


def _behind(layout: Layout) -> str:
    """A class for all that may stand in the head behind the fields that are known."""
    return f"[^{layout.bar}]*" if layout.bar else ".*"


def _local(name: str) -> str:
    """The name of a local, with an underscore where a function shared by all modules has it."""
    return f"{name}_" if name in _SHARED else name


def _locals(fields: Iterable[Field]) -> list[str]:
    return [_local(field.lua) for field in fields]


# --- reading


def _defaults_name(layout: Layout) -> str:
    return f"{layout.name.upper()}_DEFAULTS"


def _reader(layout: Layout) -> Iterator[str]:
    yield from _defaults(layout)
    yield f"function M.read_{layout.name}(text)"
    yield from _matched(layout)
    values = [each for field in layout.required for each in _values(field)]
    if not layout.sparse:
        values += [f"{layout.keeps} = {layout.keeps}"] if layout.keeps else ["more = more"]
        shown = layout.beside if layout.keeps else [field.name for field in layout.sections]
        values += [each for name in shown for each in _values(layout.field(name))]
    if layout.sparse or layout.appended:
        yield "  local found = setmetatable({"
        yield from wrapped(values, "    ")
        yield f"  }}, {_defaults_name(layout)})"
        yield from _sparse(layout) if layout.sparse else _appended(layout, layout.appended, "  ")
        yield "  return found"
    else:
        yield "  return {"
        yield from wrapped(values, "    ")
        yield "  }"
    yield "end"


def _defaults(layout: Layout) -> Iterator[str]:
    """The metatable of what is read of a record, with the fields that most records lack: a table
    of more than 16 fields takes twice the memory."""
    values = [f"{field.lua} = {_default(field)}" for field in [*layout.sparse, *layout.appended]]
    if layout.sparse:
        values.append('more = ""')
    if values:
        yield f"local {_defaults_name(layout)} = {{"
        yield "  __index = {"
        yield from wrapped(values, "    ")
        yield "  },"
        yield "}"
        yield ""


def _matched(layout: Layout) -> Iterator[str]:
    """The match of a whole text, and an error where it fails."""
    pattern = "^" + "".join(_before(field) + _pattern(layout, field) for field in layout.required)
    names = _locals(layout.required)
    first, last = names[0], layout.required[-1]
    check = f"not {first}"
    if layout.sparse:
        names.append("rest")
        pattern += f"{layout.separator}(.*)"
    elif layout.keeps:
        shown = [layout.field(name) for name in layout.beside]
        through = max((layout.sections.index(field) for field in shown), default=-1) + 1
        names += [layout.keeps, *_locals(shown)]
        pattern += f"({layout.growth}?{_behind(layout)}"
        for field in layout.sections[:through]:
            pattern += field.before + _pattern(layout, field, captured=field in shown)
        pattern += ".*)"
    else:
        names += ["more", *_locals(layout.sections)]
        pattern += f"({layout.growth}?{_behind(layout)})"
        pattern += "".join(field.before + _pattern(layout, field) for field in layout.sections)
        if last.kind.characters:
            check += f' or (more ~= "" and byte(more) ~= {ord(layout.growth)})'
    yield from _assigned(names, f"{pattern}$")
    yield f"  if {check} then"
    yield "    error(states.UNREADABLE)"
    yield "  end"
    for name in (_local(field.lua) for field in layout.required if field.kind.letters):
        yield f"  {name} = to_counts({name})"


def _assigned(names: list[str], pattern: str, start: str = "  local ") -> Iterator[str]:
    """A match whose captures go into these."""
    line = f"{start}{', '.join(names)} ="
    if len(line) <= WIDTH:
        yield line
    else:
        indent = " " * (len(start) - len(start.lstrip()) + 2)
        first, *others = wrapped(names, indent)
        yield start + first.strip()
        yield from others[:-1]
        yield others[-1].rstrip(",") + " ="
    yield f'    match(text, "{pattern}")'


def _appended(layout: Layout, fields: list[Field], indent: str) -> Iterator[str]:
    """Sets these fields, each of which is there only if the one before it is."""
    if not fields:
        return
    field, store = fields[0], layout.keeps or "more"
    there = f"byte({store}) == {ord(layout.growth)}" if layout.keeps else f'{store} ~= ""'
    pattern = f"^{layout.growth}{_pattern(layout, field)}(.*)$"
    yield f"{indent}if {there} then"
    yield f'{indent}  found.{field.lua}, {store} = match({store}, "{pattern}")'
    yield f"{indent}  if not {store} then"
    yield f"{indent}    error(states.UNREADABLE)"
    yield f"{indent}  end"
    if field.kind.number:
        yield f"{indent}  found.{field.lua} = {_value(field, f'found.{field.lua}')}"
    yield from _appended(layout, fields[1:], f"{indent}  ")
    if field == layout.appended[0]:
        yield f"{indent}  found.{store} = {store}"
    yield f"{indent}end"


def _values(field: Field) -> list[str]:
    if field.kind.letters:
        return [f"{letter} = {_local(field.lua)}.{letter}" for letter in field.kind.letters]
    return [f"{field.lua} = {_value(field, _local(field.lua))}"]


def _value(field: Field, text: str) -> str:
    if field.kind.number and not field.kind.large:
        return f"to_number({text})"
    if field.kind.large:
        return f"{text} + 0"
    return f'{text} == "" and "{field.empty}" or {text}' if field.empty else text


def _default(field: Field) -> str:
    return field.default_text if field.kind.number else f'"{field.default_text}"'


def _sparse(layout: Layout) -> Iterator[str]:
    """Sets the fields that are written together, where they are, and those appended to them."""
    yield '  if rest ~= "" then'
    names = [*_locals(layout.sparse), "more"]
    pattern = layout.separator.join(_pattern(layout, field) for field in layout.sparse)
    pattern = f"^{pattern}({layout.growth}?.*)$"
    yield from (
        f"  {line}".replace("match(text,", "match(rest,") for line in _assigned(names, pattern)
    )
    check = f"not {names[0]}"
    if layout.sparse[-1].kind.characters:
        check += f' or (more ~= "" and byte(more) ~= {ord(layout.growth)})'
    yield f"    if {check} then"
    yield "      error(states.UNREADABLE)"
    yield "    end"
    yield from (
        f"    found.{field.lua} = {_value(field, _local(field.lua))}" for field in layout.sparse
    )
    yield "    found.more = more"
    yield from _appended(layout, layout.appended, "    ")
    yield "  end"


# --- writing


def _writer(layout: Layout) -> Iterator[str]:
    yield f"function M.write_{layout.name}(r)"
    end = f"r.{layout.keeps}" if layout.keeps else '(r.more or "")'
    if layout.appended or layout.sparse:
        yield f"  local ending = {end}"
        yield from _optional_ending(layout)
        end = "ending"
    pieces: list[str] = []
    for field in layout.required:
        written = _written(field)
        if field.place == "tag" and not field.always:
            pieces.append(f'(r.{field.lua} ~= "" and "{field.before}" .. {written} or "")')
        else:
            pieces += [f'"{field.before}"', written] if field.before else [written]
    pieces.append(end)
    if not layout.keeps:
        for field in layout.sections:
            pieces += [f'"{field.before}"', _written(field)]
    yield from _concatenated("  return ", pieces)
    yield "end"


def _optional_ending(layout: Layout) -> Iterator[str]:
    """Writes the text after the required fields: none when all others have their defaults."""
    empty = "" if not layout.keeps else None
    for field in reversed(layout.appended):
        default = _default(field)
        some = 'ending ~= ""' if empty == "" else f"byte(ending) == {ord(layout.growth)}"
        yield f"  if {some} or (r.{field.lua} or {default}) ~= {default} then"
        written = f"r.{field.lua} or {default}"
        written = f"integer.text({written})" if field.kind.number else f"({written})"
        yield f'    ending = "{field.before}" .. {written} .. ending'
        yield "  end"
    if layout.sparse:
        changed = [f"r.{field.lua} ~= {_default(field)}" for field in layout.sparse]
        yield "  if"
        yield '    ending ~= ""'
        yield from (f"    or {each}" for each in changed)
        yield "  then"
        pieces: list[str] = []
        for field in layout.sparse:
            pieces += [f'"{field.before}"', _written(field)]
        yield from (f"  {line}" for line in _concatenated("  ending = ", [*pieces, "ending"]))
        yield "  else"
        yield f'    ending = "{layout.separator}"'
        yield "  end"


def _written(field: Field) -> str:
    if field.kind.letters:
        return "states.counts_text(r)"
    return f"integer.text(r.{field.lua})" if field.kind.number else f"r.{field.lua}"


def _concatenated(start: str, pieces: list[str]) -> Iterator[str]:
    """A chain of concatenations, cut into lines before an operator."""
    line = start + pieces[0]
    for piece in pieces[1:]:
        if len(line) + len(piece) + 4 > WIDTH:
            yield line
            line = f"    .. {piece}"
        else:
            line += f" .. {piece}"
    yield line


# --- parts of a text


def _through(layout: Layout, wanted: list[Field]) -> str:
    """A pattern from a text's beginning through the last of these fields, which it captures."""
    heads, pattern = layout.required, "^"
    last = max((heads.index(field) for field in wanted if field in heads), default=-1)
    sections = [layout.sections.index(field) for field in wanted if field in layout.sections]
    if sections and layout.bar == layout.separator:
        last = len(heads) - 1  # else sections would begin with the head's second field
    for field in heads[: last + 1]:
        pattern += _before(field) + _pattern(layout, field, captured=field in wanted)
    if sections:
        pattern += _behind(layout)
        for field in layout.sections[: max(sections) + 1]:
            pattern += field.before + _pattern(layout, field, captured=field in wanted)
    return pattern


def _peeker(layout: Layout, peek: Peek) -> Iterator[str]:
    wanted = [layout.field(name) for name in peek.fields]
    yield f"function M.{layout.name}_{peek.name}(text)"
    pattern = _through(layout, wanted)
    if wanted == layout.required[:1] and not wanted[0].kind.count:
        yield "  return sub(text, 1, 1)"
    elif any(field.kind.number for field in wanted):
        yield from _assigned(_locals(wanted), pattern)
        values = [
            f"{field.lua} and {_value(field, field.lua)}" if field.kind.number else field.lua
            for field in wanted
        ]
        yield f"  return {', '.join(values)}"
    else:
        yield f'  return match(text, "{pattern}")'
    yield "end"


def _setter(layout: Layout, field: Field) -> Iterator[str]:
    """Sets one field of a text, and leaves all others as they are; a section also in a text that
    lacks the head."""
    if field in layout.sections:
        yield from _section_setter(layout, field)
        return
    before = layout.required[: layout.required.index(field)]
    skipped = "".join(_before(one) + _pattern(layout, one, captured=False) for one in before)
    own = _pattern(layout, field, captured=False)
    yield f"function M.set_{layout.name}_{field.lua}(text, value)"
    if not before:
        yield f'  return value .. match(text, "^{own}(.*)$")'
        yield "end"
        return
    yield f'  local before, behind = match(text, "^({skipped}{field.before}){own}(.*)$")'
    yield "  return before .. value .. behind"
    yield "end"


def _section_setter(layout: Layout, field: Field) -> Iterator[str]:
    skipped = _behind(layout)
    for one in layout.sections[: layout.sections.index(field)]:
        skipped += one.before + _pattern(layout, one, captured=False)
    own = _pattern(layout, field, captured=False)
    yield f"function M.set_{layout.name}_{field.lua}(text, value)"
    yield f'  local before, behind = match(text, "^({skipped}{field.before}){own}(.*)$")'
    yield "  return before .. value .. behind"
    yield "end"


def _led(layout: Layout, lead: Lead) -> list[Field]:
    names = [field.name for field in layout.required]
    return layout.required[: names.index(lead.last) + 1]


def _lead_reader(layout: Layout, lead: Lead) -> Iterator[str]:
    """Reads the head up to a field, and the tail."""
    fields, beside = _led(layout, lead), [layout.field(name) for name in layout.beside]
    names = [field.lua for field in fields if field.name not in lead.values]
    pattern = "^"
    for field in fields:
        given = lead.values.get(field.name)
        pattern += field.before + (_pattern(layout, field) if given is None else given)
    pattern += f"({layout.separator}{_behind(layout)}"
    through = max((layout.sections.index(field) for field in beside), default=-1)
    for field in layout.sections[: through + 1]:
        pattern += field.before + _pattern(layout, field, captured=field in beside)
    given = ", ".join(f'{name} "{value}"' for name, value in lead.values.items())
    yield f"-- Of a text with {given}; nothing of any other."
    yield f"function M.read_{layout.name}_lead(text)"
    yield from _assigned([*names, "tail", *_locals(beside)], f"{pattern}.*)$")
    values = [*names, "tail", *(_value(field, field.lua) for field in beside)]
    yield f"  return {', '.join(values)}"
    yield "end"


def _lead_writer(layout: Layout, lead: Lead) -> Iterator[str]:
    """Writes the head up to a field, and the tail."""
    fields = _led(layout, lead)
    names = ", ".join([*(field.lua for field in fields), "tail"])
    yield f"function M.write_{layout.name}_lead({names})"
    pieces: list[str] = []
    for field in fields:
        pieces += [f'"{field.before}"', field.lua] if field.before else [field.lua]
    yield from _concatenated("  return ", [*pieces, "tail"])
    yield "end"
