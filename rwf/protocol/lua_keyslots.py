"""Generates ``lua/lib/keyslots.lua``: where in its keys a function finds which."""

from __future__ import annotations

from collections.abc import Iterator

from rwf.protocol.keys import PARTITION_SLOTS, WORKFLOW_SLOTS


def keyslots_lua() -> Iterator[str]:
    """The lines of a library module with the place of each key of a partition and a workflow."""
    kind = WORKFLOW_SLOTS[0]
    own = ", ".join(f"keys[base + {i}]" for i in range(len(WORKFLOW_SLOTS)))
    yield "local M = {}"
    yield from (f"M.{name.upper()} = {i}" for i, name in enumerate(PARTITION_SLOTS, 1))
    yield f"M.FIRST_WORKFLOW = {len(PARTITION_SLOTS) + 1}"
    yield f"M.WORKFLOW_STRIDE = {len(WORKFLOW_SLOTS)}"
    yield ""
    yield f"-- The keys of the workflow in a slot, counted from 1: {', '.join(WORKFLOW_SLOTS)}."
    yield "function M.workflow(keys, slot)"
    yield "  local base = M.FIRST_WORKFLOW + (slot - 1) * M.WORKFLOW_STRIDE"
    yield f"  return {own}"
    yield "end"
    yield ""
    yield "-- Another of a workflow's keys, from its first one."
    yield "function M.other(key, kind)"
    yield f'  local at = find(key, ":{kind}:", 1, true)'
    yield "  return sub(key, 1, at) .. kind .. sub(key, at + 2)"
    yield "end"
    yield ""
    yield "-- The workflow's id, from its first key."
    yield "function M.id(key)"
    yield f'  return sub(key, find(key, ":{kind}:", 1, true) + {len(kind) + 2})'
    yield "end"
    yield ""
    yield "return M"
