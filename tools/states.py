"""Writes ``docs/states.md`` from the tables of ``rwf.model.states``: ``python tools/states.py``.

``--check`` writes nothing, and ends with 1 when the document is not up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rwf.model.states import (
    LEGAL_NEXT_STEPS,
    TERMINAL_STEPS,
    TRANSITIONS,
    WORKFLOW_CAUSE_RULES,
    WORKFLOW_STATE_RULES,
    OperatorStatus,
    Rule,
    StepState,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "states.md"

_MEANING = {
    StepState.PENDING: "waits for its dependencies",
    StepState.AVAILABLE: "may run now",
    StepState.EXECUTING: "runs under a lease",
    StepState.AWAITING_SIGNAL: "waits for a signal",
    StepState.RETRYABLE: "runs again later",
    StepState.COMPLETED: "done, or skipped",
    StepState.FAILED: "reported as failed",
    StepState.DISCARDED: "no attempt left, or pointless to repeat",
    StepState.CANCELLED: "by a parent's end, a request, an operator or its own report",
    StepState.EXPIRED: "a wait's deadline passed",
}

# The states that an ordinary run passes through; recoveries would cover the picture with lines.
_DRAWN = tuple(each for each in TRANSITIONS if not each.event.startswith("recovery"))


def diagram() -> Iterator[str]:
    """The states and the transitions of a step between them, as a Mermaid diagram."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {StepState.PENDING}"
    labels: dict[tuple[StepState, StepState], list[str]] = {}
    for transition in _DRAWN:
        reported = transition.event.startswith("reported")
        # A report is accepted in four states; the arrow is drawn from executing, the usual one.
        sources = {StepState.EXECUTING} if reported else transition.sources
        for source in ordered(sources):
            for target in ordered(transition.targets):
                labels.setdefault((source, target), []).append(transition.event)
    for (source, target), events in labels.items():
        # A colon would end the label.
        yield f"    {source} --> {target}: {'<br/>'.join(events).replace(':', '')}"
    for state in ordered(TERMINAL_STEPS):
        yield f"    {state} --> [*]"
    yield "```"


def ordered(states: Iterable[StepState]) -> list[StepState]:
    """The states in the order of their declaration."""
    wanted = frozenset(states)
    return [state for state in StepState if state in wanted]


def named(states: Iterable[StepState]) -> str:
    """The states as a table shows them."""
    return ", ".join(f"`{state}`" for state in ordered(states))


def table(*rows: tuple[str, ...]) -> Iterator[str]:
    """A Markdown table; the first row is its head."""
    head, *others = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in others:
        yield f"| {' | '.join(row)} |"


def rules(found: Iterable[Rule[Any]]) -> Iterator[tuple[str, str]]:
    """Each rule of a derivation: its condition, and the result."""
    for rule in found:
        conditions = []
        if rule.cancel:
            conditions.append("a cancel request stands")
        if rule.any_of:
            conditions.append(f"any step {named(rule.any_of)}")
        if rule.all_of:
            conditions.append(f"all steps {named(rule.all_of)}")
        if rule.ended:
            conditions.append("no slice is left")
        yield "; ".join(conditions) or "otherwise", f"`{rule.result}`"


def document() -> str:
    """The whole text."""
    return "\n".join(
        [
            "<!-- Made by tools/states.py from rwf/model/states.py; do not edit. -->",
            "# States",
            "",
            "## A step",
            "",
            *table(
                ("state", "", "terminal"),
                *(
                    (f"`{state}`", _MEANING[state], "yes" if state in TERMINAL_STEPS else "")
                    for state in StepState
                ),
            ),
            "",
            *diagram(),
            "",
            "Every move that a step can make, recoveries too:",
            "",
            *table(
                ("what happens", "from", "to"),
                *((t.event, named(t.sources), named(t.targets)) for t in TRANSITIONS),
            ),
            "",
            "## A workflow",
            "",
            "Its state is derived from its steps; the first rule that matches decides.",
            "",
            *table(("when", "state"), *rules(WORKFLOW_STATE_RULES)),
            "",
            "Once all steps are terminal it has a cause, found the same way:",
            "",
            *table(("when", "cause"), *rules(WORKFLOW_CAUSE_RULES)),
            "",
            "## What an operator reads first",
            "",
            "In this order, the first that applies: "
            + ", ".join(f"*{status}*" for status in OperatorStatus)
            + ".",
            "",
            "## Refusals",
            "",
            "A refused command changes no state, leaves evidence, and names the ways on.",
            "",
            *table(
                ("reason code", "legal next steps"),
                *(
                    (f"`{reason}`", ", ".join(f"`{step}`" for step in steps))
                    for reason, steps in LEGAL_NEXT_STEPS.items()
                ),
            ),
            "",
        ]
    )


def main() -> int:
    text = document()
    if "--check" in sys.argv:
        if DOCUMENT.read_text() == text:
            return 0
        print("docs/states.md is not up to date; run `python tools/states.py`")
        return 1
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
