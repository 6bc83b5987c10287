"""The processes that run the steps: the library's own worker, an executor that claims by handler,
and a launcher that delivers tickets."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from rwf import (
    Append,
    AsyncClient,
    Await,
    Cancel,
    Client,
    CommandRejected,
    Completion,
    Discard,
    Fail,
    Handlers,
    Reconciler,
    Retry,
    RunWorkflow,
    Skip,
    StepContext,
    StoreUnavailable,
    Ticket,
    Worker,
)
from rwf.model.views import ClaimedStep
from rwf.ops.complete import Batch
from rwf.worker.tickets import StepRunner
from tests.fault.campaign.plan import REDUCED, SIGNAL, Decision, token_of
from tests.fault.campaign.shapes import plan_of
from tests.fault.campaign.share import LEASE, PAUSE, Share, answered

_AT_ONCE: Final = 8


class _Handler:
    """The handler of all steps: notes that it runs, and decides by the plan."""

    def __init__(self, share: Share, kind: str) -> None:
        self._share = share
        self._journal = share.journal(kind)

    def run(self, claim: ClaimedStep) -> tuple[Decision, float, dict[str, Any]]:
        """The outcome of the attempt, how many seconds it takes, and its payload."""
        number = claim.workflow_context["number"]
        one = plan_of(self._share.seed, claim.workflow_context)
        token = secrets.token_hex(6)
        self._journal.note(
            id=claim.workflow_id, step=claim.step, attempt=claim.attempt, token=token
        )
        decision = one.decide(
            claim.step,
            attempt=claim.attempt,
            woken=claim.signal is not None,
            ready=self._share.ready(number).exists(),
        )
        saw = {name: token_of(got) for name, got in claim.input.items() if name != REDUCED}
        payload = {"token": token, "number": number, "saw": saw}
        if REDUCED in claim.input:
            payload[REDUCED] = [token_of(got) for got in claim.input[REDUCED]]
        return decision, one.every[claim.step].seconds, payload


def _handlers(share: Share, kind: str) -> Handlers:
    """The registry of that handler, which raises its outcomes."""
    handler, handlers = _Handler(share, kind), Handlers()

    @handlers.step("act")
    async def act(ctx: StepContext) -> Any:
        decision, seconds, payload = handler.run(ctx.claim)
        await asyncio.sleep(seconds)
        if decision.waits:
            key = f"{ctx.workflow_context['number']}.{ctx.step}"
            raise Await(signal=SIGNAL, correlation_key=key, deadline=decision.deadline)
        if decision.child is not None:
            raise RunWorkflow(decision.child)
        if decision.append is not None:
            return Append(decision.append, result=payload)
        match decision.status:
            case "retryable":
                raise Retry(in_=decision.retry_in)
            case "skipped":
                raise Skip(branch=decision.branch)
            case "failed":
                raise Fail(payload=payload)
            case "discarded":
                raise Discard(payload=payload)
            case "cancelled":
                raise Cancel(payload=payload)
        return payload

    return handlers


def worker(share: Share) -> None:
    """``rwf.Worker``, without a reconciler of its own."""
    serving = Worker(
        AsyncClient.from_url(share.url),
        concurrency=16,
        lease=LEASE,
        grace=1,
        reconcile=False,
        handlers=_handlers(share, "ran-worker"),
    )
    serving.run()


def launcher(share: Share) -> None:
    """Dispatches steps, and delivers each ticket twice; tickets that a kill leaves become void."""
    with (
        Client.from_url(share.url) as client,
        StepRunner(client, _handlers(share, "ran-launcher"), lease=LEASE) as runner,
        ThreadPoolExecutor(2 * _AT_ONCE) as threads,
    ):

        def deliver(ticket: Ticket) -> None:
            with suppress(StoreUnavailable):  # for longer than the lease, or at the start
                runner.run(ticket)

        name = f"launcher-{share.index}"
        dispatch = partial(client.dispatch, ["default"], dispatcher=name, limit=_AT_ONCE)
        while True:
            tickets: Sequence[Ticket] = answered(partial(dispatch, hold=LEASE))
            for _ in threads.map(deliver, [*tickets, *tickets]):
                pass
            time.sleep(PAUSE)


def executor(share: Share) -> None:
    """Claims, works and reports in batches, now and then twice; notes accepted reports."""
    handler = _Handler(share, "ran-executor")
    accepted = share.journal("accepted")
    with Client.from_url(share.url) as client:
        name = f"executor-{share.index}"
        claim = partial(client.claim, ["default"], worker_id=name, limit=_AT_ONCE, lease=LEASE)
        while True:
            claimed: Sequence[ClaimedStep] = answered(claim)
            while claimed:
                items = [item for one in claimed if (item := _worked(client, handler, one))]
                report = partial(client.complete_many, items, worker_id=name, lease=LEASE)
                batch: Batch = answered(partial(report, claim_next=_AT_ONCE))
                for item, found in zip(items, batch, strict=True):
                    if item.payload is not None and not isinstance(found, CommandRejected):
                        accepted.note(**_told(item, found.outcome))
                answered(report)  # every report comes twice
                claimed = batch.claimed
            time.sleep(PAUSE)


def _worked(client: Client, handler: _Handler, claim: ClaimedStep) -> Completion | None:
    """The report on a claim; None where the step waits instead, or runs a workflow."""
    decision, seconds, payload = handler.run(claim)
    time.sleep(seconds)
    place, lease = (claim.workflow_id, claim.step), claim.lease
    wait: Callable[[], object]
    if decision.waits:
        key = f"{claim.workflow_context['number']}.{claim.step}"
        awaited = partial(client.await_step, *place, signal=SIGNAL, correlation_key=key)
        wait = partial(awaited, deadline=decision.deadline, lease=lease)
    elif decision.child is not None:
        wait = partial(client.start_child, *place, decision.child, lease=lease)
    else:
        return Completion(
            workflow_id=claim.workflow_id,
            step=claim.step,
            status=decision.status,
            payload=None if decision.status == "skipped" else payload,
            lease=lease,
            retry_in=decision.retry_in,
            branch=decision.branch,
            append=decision.append,
        )
    with suppress(CommandRejected):  # the lease is lost, or a cancel request is open
        answered(wait)
    return None


def _told(item: Completion, outcome: str) -> dict[str, Any]:
    return {
        "id": item.workflow_id,
        "step": item.step,
        "lease": item.lease,
        "token": item.payload["token"],
        "outcome": outcome,
    }


def daemon(share: Share) -> None:
    """``rwf.Reconciler``."""
    Reconciler(AsyncClient.from_url(share.url), interval=0.2, sweep_interval=2.0).run()
