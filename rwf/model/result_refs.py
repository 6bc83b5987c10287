"""Filling the results and outcomes of other steps into an input (contract §3, §13, §14)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rwf.model.references import (
    OUTCOME_KEY,
    RESULT_KEY,
    RESULTS_KEY,
    OutcomeRef,
    Ref,
    ResultsRef,
)

_WHOLE: Final = re.compile("0|[1-9][0-9]{0,15}")


class ResultMissing(Exception):
    """A reference leads nowhere: ``step`` has no result row, or its result no such field."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(f"no result of {ref.step}{ref.place}")
        self.ref = ref


def references(value: Any) -> Iterator[Ref]:
    """The references to results that a stored input holds, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        ref = Ref.of_dict(value) if RESULT_KEY in value else None
        if ref is not None:
            yield ref
            return
        for item in value.values():
            yield from references(item)


def outcomes_in(value: Any) -> Iterator[OutcomeRef]:
    """The references to outcomes that a stored input holds, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from outcomes_in(item)
    elif isinstance(value, dict):
        if OUTCOME_KEY in value:
            ended = OutcomeRef.of_dict(value)
            assert ended is not None, "an insert refuses what is no reference"
            yield ended
            return
        for item in value.values():
            yield from outcomes_in(item)


def lists_in(value: Any) -> Iterator[ResultsRef]:
    """The references to results of appended steps that a stored input holds, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from lists_in(item)
    elif isinstance(value, dict):
        if RESULTS_KEY in value:
            appended = ResultsRef.of_dict(value)
            assert appended is not None, "an insert refuses what is no reference"
            yield appended
            return
        for item in value.values():
            yield from lists_in(item)


def fill(
    value: Any,
    results: Mapping[str, Any],
    null: frozenset[str],
    outcomes: Mapping[str, Any] | None = None,
    lists: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """The input with each reference replaced by the result it stands for, verbatim.

    ``results`` has the decoded results by step; a reference to a step in ``null`` is null.
    ``outcomes`` are those that references to outcomes stand for; None where the input was stored
    without any, and ``$outcome`` is a key like any other. The same goes for ``lists``: by the step
    that has appended them, the steps whose results a reference stands for. What is filled in is not
    searched for references. Raises :class:`ResultMissing`.
    """
    if isinstance(value, list):
        return [fill(item, results, null, outcomes, lists) for item in value]
    if not isinstance(value, dict):
        return value
    if outcomes is not None and OUTCOME_KEY in value:
        ended = OutcomeRef.of_dict(value)
        assert ended is not None, "an insert refuses what is no reference"
        return outcomes[ended.step]
    if lists is not None and RESULTS_KEY in value:
        appended = ResultsRef.of_dict(value)
        assert appended is not None, "an insert refuses what is no reference"
        return [_result(Ref(name), results, null) for name in lists[appended.step]]
    if RESULT_KEY not in value:
        return {key: fill(item, results, null, outcomes, lists) for key, item in value.items()}
    ref = Ref.of_dict(value)
    assert ref is not None, "an insert refuses what is no reference"
    return _result(ref, results, null)


def _result(ref: Ref, results: Mapping[str, Any], null: frozenset[str]) -> Any:
    """The result that a reference stands for; raises :class:`ResultMissing`."""
    if ref.step in null:
        return None
    if ref.step not in results:
        raise ResultMissing(ref)
    return value_at(results[ref.step], ref)


def value_at(found: Any, ref: Ref) -> Any:
    """The part of a result that a reference's path points to; raises :class:`ResultMissing`."""
    path = ref.path.split(".") if isinstance(ref.path, str) else ref.path or ()
    for part in path:
        key = _index(part) if isinstance(found, list) and path is not ref.path else part
        if isinstance(found, dict):
            there = isinstance(key, str) and key in found
        else:
            there = isinstance(found, list) and isinstance(key, int) and key < len(found)
        if not there:
            raise ResultMissing(ref)
        found = found[key]
    return found


def _index(part: str | int) -> str | int:
    """A part of a dotted path as an index of a list, if it is a whole number."""
    return int(part) if _WHOLE.fullmatch(str(part)) else part
