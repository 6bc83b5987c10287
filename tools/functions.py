"""Writes ``docs/functions.md`` from the declared functions: ``python tools/functions.py``.

``--check`` writes nothing, and ends with 1 when the document is not up to date.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rwf.protocol.declare import FUNCTIONS, Item, ServerFunction, item_fields

DOCUMENT = Path(__file__).parents[1] / "docs" / "functions.md"

_HEAD = """<!-- Made by tools/functions.py from rwf/protocol/functions; do not edit. -->
# Server functions

The functions that clients call. Each release loads its own as one library, named after the hash of
its text. A function is declared in `rwf/protocol/functions/` and written in `lua/functions/`; its
file there says what it writes and how much it does at most. An argument or a field of a reply is
only ever appended, with a default.

*reads*: registered as `no-writes`. *past maxmemory*: also runs when the server is full, since it
only frees, repairs or finishes something. *publishes*: it may send hints, and is told whether its
call was sent before."""


def document() -> str:
    """The whole text."""
    modules: dict[str, list[type[ServerFunction[Any]]]] = {}
    for function in FUNCTIONS.values():
        modules.setdefault(function.__module__, []).append(function)
    lines = [_HEAD]
    for name in sorted(modules):
        lines += ["", f"## {name.rpartition('.')[2].capitalize()}", "", _doc(sys.modules[name])]
        for function in sorted(modules[name], key=lambda each: each.name):
            lines += ["", *_function(function)]
    return "\n".join(lines) + "\n"


def _function(function: type[ServerFunction[Any]]) -> Iterator[str]:
    yield f"### {function.name}"
    yield ""
    yield _doc(function)
    yield ""
    arguments = ", ".join(f"`{each.name}` {_argument(each)}" for each in function.parameters)
    yield f"- takes: {arguments or 'nothing'}"
    yield f"- answers: {_reply(_reply_of(function))}"
    flags = {
        "reads": function.reads_only,
        "past maxmemory": function.when_full,
        "publishes": function.publishes,
    }
    if told := [name for name, is_set in flags.items() if is_set]:
        yield f"- {', '.join(told)}"


def _argument(parameter: Any) -> str:
    if parameter.items is None:
        return _named(parameter.kind, parameter.optional)
    if not issubclass(parameter.items, Item):
        return f"list of {_named(parameter.items, False)}"
    fields = ", ".join(
        f"{name} {_named(kind, optional)}" for name, kind, optional in item_fields(parameter.items)
    )
    return f"list of ({fields})"


def _named(kind: type, optional: bool) -> str:
    return f"{kind.__name__} or nothing" if optional else kind.__name__


def _reply_of(function: Any) -> Any:
    (declared,) = (b for b in function.__orig_bases__ if typing.get_origin(b) is ServerFunction)
    return typing.get_args(declared)[0]


def _reply(hint: Any) -> str:
    if hint in (None, types.NoneType):
        return "nothing"
    if isinstance(hint, types.UnionType):
        kinds = [each for each in typing.get_args(hint) if each is not types.NoneType]
        ending = " or nothing" if types.NoneType in typing.get_args(hint) else ""
        return " or ".join(map(_reply, kinds)) + ending
    if typing.get_origin(hint) is list:
        return f"list of {_reply(typing.get_args(hint)[0])}"
    if hasattr(hint, "_fields"):
        return f"{hint.__name__} ({', '.join(f'`{name}`' for name in hint._fields)})"
    return str(hint.__name__)


def _doc(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").replace("``", "`")


def main() -> int:
    text = document()
    if "--check" in sys.argv:
        return int(not DOCUMENT.exists() or DOCUMENT.read_text() != text)
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
