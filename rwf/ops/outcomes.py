"""Reading how a step's parents have ended (contract §13)."""

from __future__ import annotations

from typing import Any, Final

from rwf.errors import RwfError
from rwf.model.limits import LISTED, REPLY_BYTES, REPLY_ITEMS
from rwf.ops.base import OpContext
from rwf.ops.reads import edges, load
from rwf.protocol.functions.reads import ReadInputs
from rwf.protocol.handed import outcome_of
from rwf.protocol.requests import Op, ask

_OUTCOME: Final = "o"


def parent_outcomes(ctx: OpContext, workflow_id: str, step: str) -> Op[dict[str, Any]]:
    """How each parent of a step stands, as ``outcome()`` tells it, by name; of at most 1,000.

    Raises NotFound, and RwfError when their payloads are more than ``max_input`` together.
    """
    (record,) = (yield from load(ctx, workflow_id, names=[step])).records
    parents = yield from edges(ctx, workflow_id, record, up=True, limit=LISTED)
    names = [name for name, _ in parents]
    found: dict[str, Any] = {}
    size = 0
    while len(found) < len(names):
        some = names[len(found) : len(found) + REPLY_ITEMS]
        read = ReadInputs(
            REPLY_BYTES, whole_first=True, step=step, items=[f"{_OUTCOME}{name}" for name in some]
        )
        told = yield from ask(ctx.workflow_keys(workflow_id), read)
        if not told:
            raise RwfError(f"workflow {workflow_id} is gone")
        for name, (ended, payload) in zip(some, told, strict=False):
            size += len(payload or b"")
            found[name] = outcome_of(ended or b"", payload)
        if size > ctx.max_input:
            raise RwfError(
                f"the results of the parents of {step} are more than {ctx.max_input} bytes"
            )
    return found
