"""The next steps of a root cause, as commands that can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

import click
from click.core import ParameterSource

from rwf.cli.text import without_passwords
from rwf.model.views import AwaitView, RootCause

_OF_STEP: Final = {
    "inspect_step_result": ("show", ()),
    "explain_step": ("explain", ()),
    "recover_step": ("recover", ("retry", "--dry-run")),
    "recover_with_reopen": ("recover", ("retry", "--reopen", "--dry-run")),
    "complete_step": ("complete", ()),
    "complete_with_force": ("complete", ("--force",)),
}
_ADVICE: Final = {
    "run_worker": "run a worker that serves its queue",
    "run_worker_with_handler": "deploy a worker that has a handler for it",
    "raise_max_input": "raise max_input of the worker's client",
    "reconcile": "see that a daemon runs: it finishes this",
    "wait": "wait: it goes on by itself",
}


def next_steps(workflow_id: str, cause: RootCause, awaiting: AwaitView | None) -> Iterator[str]:
    """The next steps of a root cause: commands first, then what is done elsewhere."""
    for code in cause.legal_next_steps:
        if code in _OF_STEP:
            command, options = _OF_STEP[code]
            yield pasted(command, workflow_id, cause.step, *options)
        elif code == "request_cancel":
            yield pasted("cancel", workflow_id)
        elif code == "deliver_signal" and awaiting is not None:
            yield pasted("signal", awaiting.signal, awaiting.correlation_key)
    advice = [_ADVICE[code] for code in cause.legal_next_steps if code in _ADVICE]
    if advice:
        yield f"or {'; '.join(advice)}"


def pasted(*words: str) -> str:
    """A command line that works on the server and namespace of this one. A URL with a login is left
    out: set ``$RWF_URL``."""
    context = click.get_current_context(silent=True)
    options: list[str] = []
    for name in ("url", "namespace"):
        if context and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = context.params[name]
            if value == without_passwords(value):
                options += [f"--{name}", value]
    return shlex.join(["rwf", *words, *options])
