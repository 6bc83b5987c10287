"""Those who run the steps: the library's own worker, and an executor that claims by hand."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from rwf import (
    AsyncClient,
    Await,
    Cancel,
    Client,
    CommandRejected,
    Completion,
    Discard,
    Fail,
    Reconciler,
    Retry,
    StepContext,
    Worker,
)
from rwf.model.views import ClaimedStep
from rwf.ops.complete import Batch
from tests.fault.campaign.plan import SIGNAL, Decision, plan
from tests.fault.campaign.terms import LEASE, PAUSE, Terms, answered

_RETRY_IN: Final = 0.05
_AT_ONCE: Final = 8


class _Hand:
    """What a handler does: notes that it runs, and decides."""

    def __init__(self, terms: Terms, kind: str) -> None:
        self._terms = terms
        self._journal = terms.journal(kind)

    def run(self, claim: ClaimedStep) -> tuple[Decision, float, dict[str, Any]]:
        """What the attempt comes to, how many seconds it takes, and its payload."""
        number = claim.workflow_context["number"]
        one = plan(self._terms.seed, number)
        token = secrets.token_hex(6)
        self._journal.note(
            id=claim.workflow_id, step=claim.step, attempt=claim.attempt, token=token
        )
        decision = one.decide(
            claim.step,
            attempt=claim.attempt,
            woken=claim.signal is not None,
            mended=self._terms.mended(number).exists(),
        )
        saw = {parent: got and got["token"] for parent, got in claim.input.items()}
        return decision, one.steps[claim.step].seconds, {"token": token, "saw": saw}


def worker(terms: Terms) -> None:
    """``rwf.Worker``, without a reconciler of its own."""
    hand = _Hand(terms, "ran-worker")
    serving = Worker(
        AsyncClient.from_url(terms.url), concurrency=16, lease=LEASE, grace=1, reconcile=False
    )

    @serving.step("act")
    async def act(ctx: StepContext) -> Any:
        decision, seconds, payload = hand.run(ctx.claim)
        await asyncio.sleep(seconds)
        if decision.waits:
            key = f"{ctx.workflow_context['number']}.{ctx.step}"
            raise Await(signal=SIGNAL, correlation_key=key, deadline=decision.deadline)
        match decision.status:
            case "retryable":
                raise Retry(in_=_RETRY_IN)
            case "failed":
                raise Fail(payload=payload)
            case "discarded":
                raise Discard(payload=payload)
            case "cancelled":
                raise Cancel(payload=payload)
        return payload

    serving.run()


def executor(terms: Terms) -> None:
    """Claims, works and reports in batches, now and then twice; notes what was accepted."""
    hand = _Hand(terms, "ran-executor")
    accepted = terms.journal("accepted")
    with Client.from_url(terms.url) as client:
        name = f"executor-{terms.index}"
        claim = partial(client.claim, ["default"], worker_id=name, limit=_AT_ONCE, lease=LEASE)
        while True:
            claimed: Sequence[ClaimedStep] = answered(claim)
            while claimed:
                items = [item for one in claimed if (item := _worked(client, hand, one))]
                report = partial(client.complete_many, items, worker_id=name, lease=LEASE)
                batch: Batch = answered(partial(report, claim_next=_AT_ONCE))
                for item, found in zip(items, batch, strict=True):
                    if not isinstance(found, CommandRejected):
                        accepted.note(**_told(item, found.outcome))
                answered(report)  # every report comes twice
                claimed = batch.claimed
            time.sleep(PAUSE)


def _worked(client: Client, hand: _Hand, claim: ClaimedStep) -> Completion | None:
    """What there is to report of a claim; None where it waits instead."""
    decision, seconds, payload = hand.run(claim)
    time.sleep(seconds)
    if not decision.waits:
        return Completion(
            workflow_id=claim.workflow_id,
            step=claim.step,
            status=decision.status,
            payload=payload,
            lease=claim.lease,
            retry_in=_RETRY_IN if decision.status == "retryable" else None,
        )
    key = f"{claim.workflow_context['number']}.{claim.step}"
    wait = partial(
        client.await_step,
        claim.workflow_id,
        claim.step,
        signal=SIGNAL,
        correlation_key=key,
        deadline=decision.deadline,
        lease=claim.lease,
    )
    with suppress(CommandRejected):  # the lease is lost, or the workflow is asked to end
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


def daemon(terms: Terms) -> None:
    """``rwf.Reconciler``."""
    Reconciler(AsyncClient.from_url(terms.url), interval=0.2, sweep_interval=2.0).run()
