"""Generates ``lua/lib/states.lua``: the constants and derivations of ``rwf.model.states``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from rwf.model import limits
from rwf.model.retry import Backoff
from rwf.model.states import (
    ASKED_CODE,
    ATTEMPTS_EXHAUSTED,
    BRANCH_CODE,
    BRANCH_MARK,
    BRANCH_SKIPPED,
    BRANCHING_VERSION,
    CALLBACK_CODE,
    CANCELLED_BY_DEPENDENCY,
    CANCELLED_BY_REQUEST,
    CAUSE_CODE,
    COMPLETED_LATE,
    COMPLETION,
    EVENT_CODE,
    FAILED_STEPS,
    OPEN_STEPS,
    SEMANTICS_VERSION,
    SEMANTICS_VERSIONS,
    SKIP_MARK,
    SKIPPED,
    SKIPPED_BY_OPERATOR,
    STEP_CODE,
    SUPERSEDED,
    SUPERSEDED_MARK,
    TERMINAL_STEPS,
    WAIT_EXPIRED,
    WORKFLOW_CAUSE_RULES,
    WORKFLOW_CODE,
    WORKFLOW_STATE_RULES,
    CallbackStatus,
    MoveScope,
    Outcome,
    Rule,
    StepCause,
    StepState,
    WorkflowState,
)
from rwf.protocol.codecs import UNREADABLE
from rwf.protocol.lua_text import WIDTH, wrapped


def states_lua() -> Iterator[str]:
    """The lines of a library module with what the server needs of states, causes and limits."""
    codes = [STEP_CODE[state] for state in StepState]
    yield "local M = {}"
    yield f"M.VERSION = '{SEMANTICS_VERSION}'"
    yield f"M.BRANCHING = '{BRANCHING_VERSION}'"
    yield from _table("IMPLEMENTED", ((f"['{v}']", "true") for v in SEMANTICS_VERSIONS))
    yield f"M.CODES = {{{', '.join(map(repr, codes))}}}"
    yield from _table("NAME", ((STEP_CODE[s], f"'{s}'") for s in StepState))
    yield from _table("CAUSE_NAME", ((code, f"'{cause}'") for cause, code in CAUSE_CODE.items()))
    yield from _table(
        "TERMINAL", ((STEP_CODE[s], "true") for s in StepState if s in TERMINAL_STEPS)
    )
    yield from _table("FAILED", ((STEP_CODE[s], "true") for s in StepState if s in FAILED_STEPS))
    yield from _table("STEP_GAUGE", ((STEP_CODE[s], f"'gs|{s}'") for s in StepState))
    yield from _table("WORKFLOW_GAUGE", ((s, f"'gw|{s}'") for s in WorkflowState))
    yield f"M.GROUPS = {{{', '.join(map(repr, ('o', *WORKFLOW_CODE.values())))}}}"
    yield from _table("WORKFLOW_CODE", ((s, f"'{c}'") for s, c in WORKFLOW_CODE.items()))
    yield from _outcomes()
    yield from _counters()
    yield from _table("EVENT_CODE", ((f"['{e}']", f"'{c}'") for e, c in EVENT_CODE.items()))
    yield from _table("EVENT_NAME", ((c, f"'{e}'") for e, c in EVENT_CODE.items()))
    yield from _table("CALLBACK_GAUGE", ((c, f"'{_gauge(s)}'") for s, c in CALLBACK_CODE.items()))
    yield f"M.UNREADABLE = '{UNREADABLE}'"
    yield "M.BACKOFF = {" + ", ".join(repr(part) for part in Backoff().parts()) + "}"
    yield from (f"M.{name} = {getattr(limits, name)}" for name in _LUA_LIMITS)
    yield ""
    yield from _counts_text(codes)
    yield from _derivation("workflow_state", WORKFLOW_STATE_RULES)
    yield from _derivation("workflow_cause", WORKFLOW_CAUSE_RULES)
    yield "return M"


_LUA_LIMITS: Final = (
    "EDGES_PER_CALL", "LISTED", "EVIDENCE_KEPT", "CHUNK", "ROUND_SHARE", "CALLBACK_ATTEMPTS",
    "RESERVED_MS", "INSERT_MS", "SIGNAL_KEPT_MS", "GRACE_MS", "SERVED_NOTED_MS",
    "SERVED_KEPT_MS", "SERVED_KEPT", "CALLBACK_KEPT_MS",
    "DISPATCHER_NOTED_MS", "TIMEOUT_GRACE_MS", "AHEAD_MS", "BULK_KEPT_MS",
    "REPLY_ITEMS", "REPLY_BYTES",
    "FIRST_PAUSE_MS", "LONGEST_PAUSE_MS", "REFERENCES_TOLD", "RESULTS_TOLD", "OTHERS_TOLD",
    "WORKERS_KEPT_MS", "WORKERS_KEPT", "NAMES_COUNTED", "MINUTES_COUNTED",
)  # fmt: skip


def _table(name: str, items: Iterable[tuple[str, str]]) -> Iterator[str]:
    entries = [f"{key} = {value}" for key, value in items]
    line = f"M.{name} = {{{', '.join(entries)}}}"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"M.{name} = {{"
    yield from wrapped(entries, "  ")
    yield "}"


def _outcomes() -> Iterator[str]:
    """The state and cause in which each way of ending leaves a step."""
    completion = [(ASKED_CODE[asked], _outcome(o)) for asked, o in COMPLETION.items()]
    yield from _table("COMPLETION", [*completion, (BRANCH_CODE, _outcome(BRANCH_SKIPPED))])
    yield f"M.ATTEMPTS_EXHAUSTED = {_outcome(ATTEMPTS_EXHAUSTED)}"
    yield f"M.CASCADED = {_outcome(CANCELLED_BY_DEPENDENCY)}"
    yield f"M.COMPLETED_LATE = {_outcome(COMPLETED_LATE)}"
    yield f"M.CANCELLED_BY_REQUEST = {_outcome(CANCELLED_BY_REQUEST)}"
    yield f"M.SKIPPED_BY_OPERATOR = {_outcome(SKIPPED_BY_OPERATOR)}"
    yield f"M.SKIPPED = {_outcome(SKIPPED)}"
    yield f"M.BRANCH_SKIPPED = {_outcome(BRANCH_SKIPPED)}"
    yield f"M.SUPERSEDED = {_outcome(SUPERSEDED)}"
    yield f"M.WAIT_EXPIRED = {_outcome(WAIT_EXPIRED)}"


def _outcome(outcome: Outcome) -> str:
    """The state, the cause, and the statistics' field that counts the steps which end by it."""
    state = f"state = '{STEP_CODE[outcome.state]}'"
    if not outcome.cause:
        return f"{{{state}, cause = ''}}"
    counter = f"sc|{outcome.state}|{outcome.cause}|{SEMANTICS_VERSION}"
    if outcome is CANCELLED_BY_DEPENDENCY:
        counter = counter.replace("sc|", f"cc|{MoveScope.DEPENDENCY}|")
    cause, seen = CAUSE_CODE.get(outcome.cause), ""
    if outcome.cause is StepCause.SKIPPED:
        cause = CAUSE_CODE[StepCause.COMPLETED]
        seen = f", seen = '{BRANCH_MARK if outcome.branch else SKIP_MARK}'"
    if outcome is SUPERSEDED:
        state, cause = (
            f"state = '{STEP_CODE[StepState.COMPLETED]}'",
            CAUSE_CODE[StepCause.COMPLETED],
        )
        seen = f", seen = '{SUPERSEDED_MARK}'"
    return f"{{{state}, cause = '{cause}', counter = '{counter}'{seen}}}"


def _gauge(status: CallbackStatus) -> str:
    """Where a callback of this status is counted: one that a handler has is not delivered yet."""
    return f"gc|{CallbackStatus.PENDING if status is CallbackStatus.LEASED else status}"


def _counters() -> Iterator[str]:
    """The statistics' fields for what makes a step available."""
    version = SEMANTICS_VERSION
    released, recovered = (f"su|{scope}|{StepState.AVAILABLE}|{version}" for scope in MoveScope)
    yield f"M.COUNTER_RELEASED = '{released}'"
    yield f"M.COUNTER_RECOVERED = '{recovered}'"


def _counts_text(codes: Iterable[str]) -> Iterator[str]:
    """A Lua function that writes the counts which are not 0 ("p3a1")."""
    yield "-- Counts of steps as text, by their letters; small ones are kept."
    yield "local COUNTS = {"
    yield from wrapped([f'{code} = {{ [0] = "" }}' for code in codes], "  ")
    yield "}"
    yield ""
    yield "local function counted(code, number)"
    yield "  local text = code .. integer.text(number)"
    yield "  if number < 100 then"
    yield "    COUNTS[code][number] = text"
    yield "  end"
    yield "  return text"
    yield "end"
    yield ""
    yield "-- The counts of a header (header.lua)."
    yield "function M.counts_text(h)"
    yield "  local known = COUNTS"
    parts = [f'(known.{code}[h.{code}] or counted("{code}", h.{code}))' for code in codes]
    yield "  return " + "\n    .. ".join(parts)
    yield "end"
    yield ""


def _derivation(name: str, rules: Iterable[Rule[Any]]) -> Iterator[str]:
    """A Lua function that applies the rules in their order."""

    def total(states: Iterable[StepState]) -> str:
        return " + ".join(f"h.{STEP_CODE[state]}" for state in StepState if state in states)

    yield f"function M.{name}(h)"
    for rule in rules:
        conditions = ['h.cancel ~= ""'] if rule.cancel else []
        if rule.overdue:
            conditions.append("h.overdue")
        if rule.any_of:
            conditions.append(f"{total(rule.any_of)} > 0")
        if rule.all_of:
            others = TERMINAL_STEPS | OPEN_STEPS
            conditions.append(f"{total(others - rule.all_of)} == 0")
        if rule.ended:
            conditions.append("h.head == h.tail")
        if conditions:
            yield f"  if {' and '.join(conditions)} then return '{rule.result}' end"
        else:
            yield f"  return '{rule.result}'"
    yield "end"
    yield ""
