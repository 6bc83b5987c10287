"""Findings, and the probe by which the doctor's checks ask the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import redis.exceptions as errors

from rwf.model.views import Check
from rwf.transport.actions import Steps
from rwf.transport.session import Session

Info = Mapping[str, Any]
Replies = Mapping[str, Any]
Status = Literal["ok", "warning", "failed"]

_SEVERITY: Final[tuple[Status, ...]] = ("ok", "warning", "failed")


def ask(session: Session, *args: str) -> Steps[Replies | errors.ResponseError]:
    """Every primary's reply by its name, or the refusal: the user may lack the right."""
    try:
        replies, _ = yield from session.everywhere(args)
    except errors.ResponseError as error:
        return error
    return replies


def ok(name: str, found: str) -> Check:
    """Nothing to do."""
    return Check(name=name, status="ok", found=found, advice=None)


def warning(name: str, found: str, advice: str) -> Check:
    """Something to look after."""
    return Check(name=name, status="warning", found=found, advice=advice)


def failed(name: str, found: str, advice: str) -> Check:
    """A state of the server that rwf cannot run with."""
    return Check(name=name, status="failed", found=found, advice=advice)


def unreadable(name: str, what: str, error: errors.ResponseError) -> Check:
    """A question the server refused: often for want of a right, which says nothing of its state."""
    if isinstance(error, errors.NoPermissionError):
        return warning(name, f"this user may not read {what}", "run the doctor as one who may")
    return failed(name, f"{what} failed: {error}", "look at the server's log")


def worst(checks: Iterable[tuple[str, Check]]) -> Check:
    """The gravest of the nodes' checks, with the node's name where there are several."""
    node, gravest = max(checks, key=lambda pair: _SEVERITY.index(pair[1].status))
    if not node or gravest.status == "ok":
        return gravest
    return gravest.model_copy(update={"found": f"{node}: {gravest.found}"})


def duration(seconds: float) -> str:
    """A time for people: ``42 s``, ``12 min``, ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
