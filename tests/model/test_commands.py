"""Every command in random histories: stored keys agree, dry runs are true, and nothing gets stuck.

The state machine in this folder compares commands with the reference model. This file checks
promises that need no model: whatever was done to a workflow, it can be brought to its end.
``RWF_TEST_SCALE=long`` runs 2,000 histories, else 100.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rwf import Client, CommandRejected
from rwf.model.states import OPEN_STEPS, CompletionStatus, RecoveryAction, RecoveryScope, StepState
from rwf.model.views import RecoveryResult
from tests.conftest import SCALE, Pool
from tests.model.graphs import definitions
from tests.model.plain import Definition
from tests.model.system import build
from tests.support import invariants

HISTORIES = {"long": 2000, "slice": 300}.get(SCALE, 100)
SIGNAL, KEY = "go", "key"

Command = Callable[[Client, str, str], object]


def report(status: CompletionStatus) -> Command:
    """Ends or puts off a step, whoever holds it."""
    delay = 0 if status is CompletionStatus.RETRYABLE else None
    return lambda client, flow, step: client.complete_step(
        flow, step, status, retry_in=delay, force=True
    )


def wait(deadline: timedelta | None) -> Command:
    return lambda client, flow, step: client.await_step(
        flow, step, signal=SIGNAL, correlation_key=KEY, deadline=deadline
    )


def recover(action: RecoveryAction, scope: RecoveryScope, reopen: bool) -> Command:
    """A recovery, after a dry run of it: both have the same result, or are refused alike."""

    def both(client: Client, flow: str, step: str) -> object:
        told: list[object] = []
        for dry_run in (True, False):
            try:
                done = client.recover_step(
                    flow, step, action, scope=scope, reopen=reopen, force=True, dry_run=dry_run
                )
                told.append(_told(done))
            except CommandRejected as refusal:
                told.append((refusal.reason_code, refusal.legal_next_steps))
        assert told[0] == told[1]
        return told

    return both


def revive(command: Command) -> Command:
    """Has a step fail, and recovers it at once."""

    def both(client: Client, flow: str, step: str) -> object:
        client.complete_step(flow, step, "failed", force=True)
        return command(client, flow, step)

    return both


def _told(result: RecoveryResult) -> object:
    return result.changes, result.change_count


RECOVERIES = st.builds(
    recover, st.sampled_from(RecoveryAction), st.sampled_from(RecoveryScope), st.booleans()
)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.sampled_from(CompletionStatus).map(report),
    st.sampled_from(CompletionStatus).map(report),
    RECOVERIES,
    RECOVERIES,
    RECOVERIES.map(revive),
    st.sampled_from([None, timedelta(seconds=-1), timedelta(hours=1)]).map(wait),
    st.just(lambda client, _flow, _step: client.deliver_signal(SIGNAL, KEY)),
    st.just(lambda client, _flow, _step: client.claim(["default"], worker_id="w", limit=3)),
    st.just(lambda client, flow, _step: client.reconcile(flow)),
)
HISTORY = st.lists(st.tuples(COMMANDS, st.integers(0, 7)), min_size=12, max_size=30)


def run(client: Client, flow: str, command: Command, number: int) -> None:
    """Runs a history. Every other command goes to a step that may take one, if there is one."""
    steps = client.steps(flow)
    open_ = [step for step in steps if step.state in OPEN_STEPS - {StepState.PENDING}]
    names = [step.name for step in (open_ if number % 2 and open_ else steps)]
    with suppress(CommandRejected):
        command(client, flow, names[number % len(names)])


def finish(client: Client, flow: str) -> None:
    """Completes steps until all have ended."""
    while client.get(flow).finished_at is None:
        open_ = [
            step.name
            for step in client.steps(flow)
            if step.state in OPEN_STEPS and step.state is not StepState.PENDING
        ]
        assert open_, f"stuck: {client.explain(flow).diagnosis}"
        client.complete_step(flow, open_[0], force=True)


@pytest.mark.scaled
@pytest.mark.parametrize("place", ["valkey91", "redis70"])
def test_whatever_was_done_it_can_be_brought_to_its_end(place: str, pool: Pool) -> None:
    server = pool.get(place)

    @settings(
        max_examples=HISTORIES // 2,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(definition=definitions(), history=HISTORY, cancel=st.integers(0, 60))
    def histories(definition: Definition, history: list[tuple[Command, int]], cancel: int) -> None:
        server.flush()
        with Client.from_url(server.url) as client:
            flow = client.insert(build(definition)).id
            for at, (command, number) in enumerate(history):
                if at == cancel:
                    run(client, flow, lambda c, f, _: c.request_cancel(f), 0)
                run(client, flow, command, number)
                assert invariants.check(client) == []
            finish(client, flow)
            assert client.reconcile(flow).repairs == ()
            assert invariants.check(client) == []

    histories()
