"""Lives of workflows, in acts: each leaves records that the next one goes on with.

An act runs on whichever release of the library is imported, in a process of its own. It takes a
client and the last act's return value, mostly the workflow's id, and knows nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from rwf import Callback, ClaimedStep, Client, result
from rwf.model.states import PauseReason
from rwf.ops.cancel import request_cancel
from rwf.ops.claims import pause
from rwf.ops.recover import Recovery, recover_step
from rwf.protocol.functions.workflows import Advance
from rwf.protocol.requests import ask
from tests.support.flows import drive, fan_out, first_call_only, flow

WORKER: Final = "act"
Act = Callable[[Client, str], object]


def held(client: Client, workflow_id: str) -> list[ClaimedStep]:
    """The claimable steps of a workflow."""
    found = []
    for one in client.claim(["default"], worker_id=WORKER, limit=1_000, lease=3_600):
        if one.workflow_id == workflow_id:
            found.append(one)
        else:
            client.release([one])
    return found


def advance(client: Client, workflow_id: str) -> None:
    """Takes an unfinished walk one slice further."""
    client._run(ask(client._ctx.workflow_keys(workflow_id), Advance(None)))


# --- an ordinary one: step, claim, header, row, evidence, reservation


def inserted(client: Client, _: str) -> str:
    workflow = flow("a b:a c:+b").add("d", worker="d", input=result("a"), deps=["a"])
    return client.insert(workflow, key=f"key {time.monotonic()}", actor="ann").id


def claimed(client: Client, workflow_id: str) -> str:
    [claim] = held(client, workflow_id)
    return claim.model_dump_json()


def extended(client: Client, claim: str) -> str:
    found = ClaimedStep.model_validate_json(claim)
    assert len(client.heartbeat([found], lease=7_200).extended) == 1
    client.set_retention(found.workflow_id, timedelta(days=1), actor="ann")
    return claim


def reported(client: Client, claim: str) -> str:
    found = ClaimedStep.model_validate_json(claim)
    client.complete_step(found.workflow_id, "a", lease=found.lease, payload=[1], command_id="c")
    return found.workflow_id


def retried(client: Client, workflow_id: str) -> None:
    client.complete_step(workflow_id, "b", "retryable", retry_in=0, count=False)
    again = client.complete_step(workflow_id, "a", payload=[2], command_id="c")
    assert again.outcome == "duplicate"


def ended(client: Client, workflow_id: str) -> None:
    for step in ("b", "c", "d"):
        client.complete_step(workflow_id, step)
    assert client.get(workflow_id).state == "completed"


# --- one whose steps are dispatched: claims that are tickets


def dispatched(client: Client, _: str) -> str:
    view = client.insert(flow("a b:a"))
    tickets = client.dispatch(["default"], dispatcher=WORKER, limit=1_000, hold=3_600)
    [ours] = [one for one in tickets if one.workflow_id == view.id]
    client.release([one for one in tickets if one is not ours])
    return str(ours)


def started(client: Client, ticket: str) -> str:
    workflow_id = ticket.partition("/")[0]
    assert client.explain_step(workflow_id, "a").blockers[0].code == "dispatched"
    return client.start(ticket, run_id="r", worker_id=WORKER, lease=3_600).model_dump_json()


def run(client: Client, claim: str) -> None:
    found = ClaimedStep.model_validate_json(claim)
    assert client.complete(found, payload=[1]).step.attempt == 1
    client.complete_step(found.workflow_id, "b")
    assert client.get(found.workflow_id).state == "completed"


# --- a wide one, whose walk is left unfinished: traversal, row


def wide(client: Client, _: str) -> str:
    view = client.insert(fan_out(900))
    first_call_only(client, view.id, "root", "completed")
    return view.id


def wide_cancelled(client: Client, workflow_id: str) -> None:
    drive(client, request_cancel(client._ctx, workflow_id, "ann", "enough", False), 1)


def walked_further(client: Client, workflow_id: str) -> None:
    for _ in range(6):
        advance(client, workflow_id)
    assert client.get(workflow_id).state == "pending"  # until all is looked at


def walked_to_its_end(client: Client, workflow_id: str) -> None:
    client.reconcile(workflow_id)
    assert client.get(workflow_id).state == "cancelled"


# --- one that is recovered: session, place, acknowledgement


def failed(client: Client, _: str) -> str:
    view = client.insert(fan_out(900))
    client.complete_step(view.id, "root", "failed")
    client.acknowledge(view.id, actor="ann", reason="known")
    return view.id


def recovering(client: Client, workflow_id: str) -> None:
    assert client.get(workflow_id).acknowledged_by == "ann"
    asked = Recovery(
        workflow_id=workflow_id, step="root", action="retry", actor="ann", command_id="r"
    )
    drive(client, recover_step(client._ctx, asked, dry_run=False), 1)
    advance(client, workflow_id)


def recovering_further(client: Client, workflow_id: str) -> None:
    advance(client, workflow_id)


def recovered(client: Client, workflow_id: str) -> None:
    client.reconcile(workflow_id)
    again = client.recover_step(workflow_id, "root", "retry", command_id="r")
    assert again.change_count == 901


def completed_again(client: Client, workflow_id: str) -> None:
    client.complete_step(workflow_id, "root")
    assert client.get(workflow_id).completed_step_count == 1


# --- waits: wait, topic, signal, known


def waiting(client: Client, _: str) -> str:
    view = client.insert(flow("w after:w"))
    client.await_step(view.id, "w", signal="go", correlation_key=view.id, actor="ann")
    return view.id


def signalled(client: Client, workflow_id: str) -> None:
    client.deliver_signal("other", workflow_id, payload=[0], actor="ann")
    client.deliver_signal("go", workflow_id, payload=[1], actor="ann", dedupe_key="d")
    assert client.step(workflow_id, "w").state == "available"


def waits_again(client: Client, workflow_id: str) -> None:
    client.await_step(workflow_id, "w", signal="other", correlation_key=workflow_id)
    assert client.step(workflow_id, "w").state == "available"
    client.await_step(
        workflow_id, "w", signal="go", correlation_key=workflow_id, deadline=timedelta(0)
    )


def wait_recovered(client: Client, workflow_id: str) -> None:
    client.recover_step(workflow_id, "w", "retry")
    client.complete_step(workflow_id, "w")
    assert client.deliver_signal("go", workflow_id, dedupe_key="d").status == "consumed"


# --- pauses, and callbacks


def paused(client: Client, _: str) -> str:
    view = client.insert(flow("a"), retention=timedelta(0))
    client._run(pause(client._ctx, held(client, view.id), PauseReason.NO_HANDLER))
    return view.id


def explained(client: Client, workflow_id: str) -> None:
    assert client.explain_step(workflow_id, "a").diagnosis
    client.complete_step(workflow_id, "a")


def told(client: Client, workflow_id: str) -> None:
    def handler(callback: Callback) -> None:
        if callback.workflow_id == workflow_id:
            raise RuntimeError("not yet")

    client.dispatch_callbacks(handler)
    assert client.callbacks(workflow_id)[0].status == "pending"


def looked_at(client: Client, workflow_id: str) -> None:
    assert client.callbacks(workflow_id)[0].attempts == 1
    client.reconcile(workflow_id)


LIVES: Final[dict[str, Sequence[Act]]] = {
    "ordinary": (inserted, claimed, extended, reported, retried, ended),
    "dispatched": (dispatched, started, extended, run),
    "wide": (wide, wide_cancelled, walked_further, walked_to_its_end),
    "recovered": (failed, recovering, recovering_further, recovered, completed_again),
    "waits": (waiting, signalled, waits_again, wait_recovered),
    "paused": (paused, explained, told, looked_at),
}


def main(url: str) -> None:
    """Plays acts, a line of JSON each: life, number, workflow id; answers with an id."""
    import rwf

    with Client.from_url(url, partitions=1) as client:
        print(json.dumps(rwf.__file__), flush=True)
        for line in sys.stdin:
            life, number, workflow_id = json.loads(line)
            if life == "look after":
                client.rebuild()
                again: Any = client.rebuild().repairs
                print(json.dumps(dict(again)), flush=True)
                continue
            made = LIVES[life][number](client, workflow_id)
            print(json.dumps(made or workflow_id), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
