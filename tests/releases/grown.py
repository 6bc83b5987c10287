"""A later release, for tests: the present one with a field appended to each record.

``grow`` is used in the tests themselves, and appended as text to a copy of the package, so this
module imports nothing of the tests.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from rwf.protocol import record as language
from rwf.protocol.record import Kind, Record

FRESH = "l8r"
"""The appended field's value in records that the later release writes."""


def grow(declared: type[Record], name: str = "later", fresh: str = FRESH) -> type[Record]:
    """The record with a field of this name appended, which older texts lack; the new declaration
    takes the old one's place."""
    layout = declared.layout
    fields = {field.name: field for field in dataclasses.fields(declared)}  # type: ignore[arg-type]
    annotations: dict[str, Any] = {}
    namespace: dict[str, Any] = {"__module__": declared.__module__, "__doc__": declared.__doc__}
    for field in (*layout.head, *layout.appended, None, *layout.sections):
        if field is None:
            annotations[name] = Annotated[str, Kind("", "*")]
            namespace[name] = dataclasses.field(
                default=fresh, kw_only=True, metadata={"place": "appended", "default": ""}
            )
            continue
        known = fields[field.name]
        annotations[field.name] = Annotated[Any, field.kind]
        if known.default is dataclasses.MISSING:
            namespace[field.name] = dataclasses.field(metadata=known.metadata)
        else:
            namespace[field.name] = dataclasses.field(
                default=known.default, kw_only=True, metadata=known.metadata
            )
    language.RECORDS.pop(layout.name, None)
    defaults = {field.name: field.default for field in layout.sparse}
    declare = language.record(
        layout.name,
        separator=layout.separator,
        together=(layout.together, defaults) if layout.together else None,
        keeps=layout.keeps,
        beside=layout.beside,
        peeks={peek.name: peek.fields for peek in layout.peeks},
        sets=layout.sets,
        lead=layout.lead,
    )
    namespace["__annotations__"] = annotations
    return declare(type(declared.__name__, (Record,), namespace))
