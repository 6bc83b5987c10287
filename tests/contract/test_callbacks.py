"""Contract §6: callbacks are written with their cause, and sent at least once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rwf import AsyncClient, Client, NotFound
from rwf.model.views import Callback, CallbackPosture, DispatchReport, WorkflowTerminal
from tests.conftest import connect

# --- written with the cause -------------------------------------------------------------------
from tests.support.callbacks_cases import numbers_of, recovered
from tests.support.commandline import NO_ID, Cli
from tests.support.flows import (
    fan_out,
    flow,
    noted,
    own_key,
    partition_key,
    raw,
    refused,
    stored,
)
from tests.support.outbox import (
    Failing,
    claimed,
    counted,
    ended,
    fail,
    hasten,
    ignore,
    settled,
    stat,
    with_callbacks,
)
from tests.support.servers import AnyServer, Server
from tests.support.waiting import until

ENDS = [
    ("completed", "completed", "completed"),
    ("failed", "failed", "step_failed"),
    ("discarded", "failed", "step_failed"),
    ("cancelled", "cancelled", "step_cancelled"),
]


@pytest.mark.parametrize(("status", "state", "cause"), ENDS)
def test_an_end_is_told(client: Client, status: str, state: str, cause: str) -> None:
    view = client.insert(flow("a b:a"))
    if status == "completed":
        client.complete_step(view.id, "a")
    assert client.callbacks(view.id) == []
    done = client.complete_step(view.id, "b" if status == "completed" else "a", status).workflow
    [callback] = client.callbacks(view.id)
    assert (callback.callback_id, callback.workflow_id) == (f"{view.id}/1", view.id)
    assert (callback.event, callback.status) == ("workflow.terminal", "pending")
    assert callback.data == {"state": state, "terminal_cause": cause}
    assert callback.occurred_at == callback.due_at == done.finished_at
    assert client.explain(view.id).callbacks == CallbackPosture(pending=1)
    assert stat(client, "gc|pending") == 1


def expiring(client: Client, workflow_id: str) -> None:
    gone = timedelta(seconds=-1)
    client.await_step(workflow_id, "a", signal="go", correlation_key="k", deadline=gone)


def abandoning(client: Client, workflow_id: str) -> None:
    client.claim(["default"], worker_id="w", lease=0.001)
    until(lambda: client.reconcile(workflow_id).repairs, what="the end of the lease")


def recovering(action: str) -> Callable[[Client, str], object]:
    return lambda client, workflow_id: client.recover_step(workflow_id, "a", action)


@pytest.mark.parametrize(
    ("end", "state", "cause"),
    [
        (expiring, "expired", "expired_wait"),
        (abandoning, "failed", "step_failed"),
        (Client.request_cancel, "cancelled", "operator_cancelled"),
        (recovering("cancel"), "cancelled", "step_cancelled"),
        (recovering("skip"), "completed", "completed"),
    ],
)
def test_whatever_ends_a_workflow_tells_it(
    one_client: Client, end: Callable[[Client, str], object], state: str, cause: str
) -> None:
    view = one_client.insert(flow("a", max_attempts=1))
    end(one_client, view.id)
    told = one_client.callbacks(view.id)[-1]
    assert told.event == "workflow.terminal"
    assert told.data == {"state": state, "terminal_cause": cause}


def test_an_end_that_changes_is_told_and_one_that_stays_is_not(one_client: Client) -> None:
    view = one_client.insert(flow("a b c"))
    for step, status in (("a", "failed"), ("b", "failed"), ("c", "cancelled")):
        one_client.complete_step(view.id, step, status)
    for step in ("a", "b"):
        one_client.recover_step(view.id, step, "skip")
    told = [(one.event, one.data.get("state")) for one in one_client.callbacks(view.id)]
    assert told == [
        ("workflow.terminal", "failed"),
        ("workflow.recovery_completed", None),
        ("workflow.recovery_completed", None),
        ("workflow.terminal", "cancelled"),
    ]


def test_repeating_the_last_command_tells_nothing_more(client: Client) -> None:
    workflow_id = ended(client)
    assert client.complete_step(workflow_id, "a").outcome == "duplicate"
    with refused("already_terminal"):
        client.complete_step(workflow_id, "a", "failed")
    assert len(client.callbacks(workflow_id)) == 1


def test_a_workflow_that_does_not_exist(client: Client) -> None:
    with pytest.raises(NotFound):
        client.callbacks(NO_ID)


# --- delivering -------------------------------------------------------------------------------


def test_the_envelope(client: Client) -> None:
    workflow_id = ended(client, "failed")
    got: list[Callback] = []
    with counted(client, delivered=1):
        assert client.dispatch_callbacks(got.append) == DispatchReport(delivered=1, failed=0)
    assert got[0].model_dump() == {
        "callback_id": f"{workflow_id}/1",
        "event": "workflow.terminal",
        "workflow_id": workflow_id,
        "name": "flow",
        "key": None,
        "tags": {},
        "semantics_version": 2,
        "envelope_version": 1,
        "occurred_at": client.get(workflow_id).finished_at,
        "state": "failed",
        "terminal_cause": "step_failed",
        "skipped_step_count": 0,
    }
    [after] = client.callbacks(workflow_id)
    assert (after.status, after.attempts, after.due_at) == ("delivered", 1, None)
    assert client.dispatch_callbacks(got.append) == DispatchReport(delivered=0, failed=0)
    assert client.explain(workflow_id).callbacks == CallbackPosture(delivered=1)
    assert (stat(client, "gc|pending"), stat(client, "gc|delivered")) == (0, 1)


def test_the_envelope_of_a_recovery(client: Client) -> None:
    workflow_id = ended(client, "failed")
    done = client.recover_step(workflow_id, "a", "skip")
    got: list[Callback] = []
    client.dispatch_callbacks(got.append)
    assert [one.event for one in got] == [
        "workflow.terminal",
        "workflow.recovery_completed",
        "workflow.terminal",
    ]
    assert got[1].model_dump() == {
        "callback_id": f"{workflow_id}/2",
        "event": "workflow.recovery_completed",
        "workflow_id": workflow_id,
        "name": "flow",
        "key": None,
        "tags": {},
        "state": "completed",
        "semantics_version": 2,
        "envelope_version": 1,
        "occurred_at": client.get(workflow_id).finished_at,
        "session_id": done.session_id,
        "step": "a",
        "action": "skip",
        "change_count": 1,
    }
    assert isinstance(got[2], WorkflowTerminal)
    assert (got[2].state, got[2].terminal_cause) == ("completed", "completed")


def test_the_envelope_tells_the_insert_key(client: Client) -> None:
    keys = ["order 7", "a|b:c", "é"]
    for key in keys:
        client.complete_step(client.insert(flow("a", "named"), key=key).id, "a")
    big = fan_out(900)  # whose parts are staged
    client.request_cancel(client.insert(big, key="big").id)
    got: list[Callback] = []
    client.dispatch_callbacks(got.append)
    assert sorted((one.key, one.name, one.state) for one in got) == sorted(
        [*((key, "named", "completed") for key in keys), ("big", big.name, "cancelled")]
    )


def test_a_delivery_is_no_transition_of_the_workflow(client: Client) -> None:
    workflow_id = ended(client)
    before = client.get(workflow_id), client.evidence(workflow_id)
    client.dispatch_callbacks(ignore)
    assert (client.get(workflow_id), client.evidence(workflow_id)) == before
    fail(client, ended(client), 20)
    assert client.get(workflow_id) == before[0]


def test_a_limit(client: Client) -> None:
    for _ in range(5):
        ended(client)
    got: list[str] = []
    for expected in (2, 2, 1, 0):
        report = client.dispatch_callbacks(lambda one: got.append(one.callback_id), limit=2)
        assert report == DispatchReport(delivered=expected, failed=0)
    assert len(set(got)) == len(got) == 5


def test_no_partition_waits_for_another(one_server: Server) -> None:
    with Client.from_url(one_server.url, partitions=4) as client:
        ids = [ended(client) for _ in range(60)]
        partitions = {workflow_id.partition("-")[0] for workflow_id in ids}
        assert len(partitions) == 4
        for _ in range(3):
            got: list[str] = []
            client.dispatch_callbacks(
                lambda one, got=got: got.append(one.workflow_id.partition("-")[0]),  # type: ignore[misc]
                limit=4,
            )
            assert set(got) == partitions
        assert client.dispatch_callbacks(ignore, limit=100).delivered == 48


def test_partitions_that_others_have_added(one_server: Server) -> None:
    with Client.from_url(one_server.url, partitions=1) as client:
        client.list()
        raw(client).hset("rwf:{0}:meta", "partitions", 8)
        with Client.from_url(one_server.url) as other:
            ids = {ended(other) for _ in range(40)}
        got: set[str] = set()
        client.dispatch_callbacks(lambda one: got.add(one.workflow_id), limit=100)
        assert got == ids


def test_two_dispatchers_deliver_each_once(client: Client, server: AnyServer) -> None:
    ids = [ended(client) for _ in range(60)]
    got: list[str] = []
    start = threading.Barrier(2)

    def dispatch() -> None:
        with connect(server) as other:
            other.list()
            start.wait()
            while other.dispatch_callbacks(lambda one: got.append(one.workflow_id)).delivered:
                pass

    threads = [threading.Thread(target=dispatch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(got) == Counter(ids)


@pytest.mark.parametrize(
    "arguments",
    [
        {"handler": None},
        {"handler": "print"},
        {"limit": 0},
        {"limit": 2.5},
        {"limit": True},
        {"lease": 0},
        {"lease": -1},
        {"lease": float("nan")},
        {"lease": "30"},
    ],
    ids=str,
)
def test_bad_arguments(one_client: Client, arguments: dict[str, Any]) -> None:
    with refused("invalid_argument"):
        one_client.dispatch_callbacks(**{"handler": ignore, **arguments})


# --- many at once, and in order ---------------------------------------------------------------


def test_handlers_are_called_many_at_once(client: Client) -> None:
    ids = {ended(client) for _ in range(40)}
    together = threading.Barrier(40)

    def handler(envelope: Callback) -> None:
        together.wait(30)  # raises unless all of them are here

    assert client.dispatch_callbacks(handler, limit=40).delivered == len(ids)


def test_callbacks_of_a_workflow_go_out_in_order(client: Client) -> None:
    ids = [recovered(client, 3) for _ in range(10)]
    got: list[str] = []
    at_work: set[str] = set()

    def handler(envelope: Callback) -> None:
        assert envelope.workflow_id not in at_work
        at_work.add(envelope.workflow_id)
        got.append(envelope.callback_id)
        time.sleep(0.005)
        at_work.discard(envelope.workflow_id)

    count = len(client.callbacks(ids[0]))
    report = client.dispatch_callbacks(handler, limit=1000)
    assert report == DispatchReport(delivered=10 * count, failed=0)
    for workflow_id in ids:
        assert numbers_of(got, workflow_id) == list(range(1, count + 1))


def test_a_later_callback_waits_for_one_that_failed(client: Client) -> None:
    workflow_id = recovered(client, 2)
    count = len(client.callbacks(workflow_id))
    other = ended(client)
    got: list[str] = []
    failing = [OSError()]

    def handler(envelope: Callback) -> None:
        if envelope.callback_id == f"{workflow_id}/1" and failing:
            raise failing.pop()
        got.append(envelope.callback_id)

    assert client.dispatch_callbacks(handler, limit=1000).failed == 1
    # It may be due again at once.
    if numbers_of(got, workflow_id):
        assert numbers_of(got, workflow_id)[0] == 1
    hasten(client, workflow_id)
    client.dispatch_callbacks(handler, limit=1000)
    assert numbers_of(got, workflow_id) == list(range(1, count + 1))
    assert numbers_of(got, other) == [1]


def test_one_that_is_sent_again_goes_before_later_ones(client: Client) -> None:
    workflow_id = ended(client, "failed")
    client.dispatch_callbacks(ignore)
    client.recover_step(workflow_id, "a", "skip")
    client.resend_callback(f"{workflow_id}/1")
    got: list[str] = []
    client.dispatch_callbacks(lambda one: got.append(one.callback_id))
    assert numbers_of(got, workflow_id) == [1, 2, 3]


def test_a_dead_dispatchers_claim_holds_up_later_ones_until_its_lease_ends(
    client: Client,
) -> None:
    workflow_id = ended(client, "failed")
    client.recover_step(workflow_id, "a", "skip")
    claimed(client, lease=600)
    assert client.dispatch_callbacks(ignore) == DispatchReport(delivered=0, failed=0)
    first, second, _ = client.callbacks(workflow_id)
    # It does not come before the others that are due.
    assert second.due_at == first.due_at
    hasten(client, workflow_id)
    assert client.dispatch_callbacks(ignore).delivered == 3


def test_a_hanging_handler_holds_up_no_other_workflow(client: Client) -> None:
    ids = [ended(client) for _ in range(30)]
    released = threading.Event()
    got: list[str] = []

    def handler(envelope: Callback) -> None:
        if envelope.workflow_id == ids[0]:
            assert released.wait(60)
        got.append(envelope.workflow_id)
        if len(got) == 29:
            released.set()

    assert client.dispatch_callbacks(handler, limit=100).delivered == 30


# --- failing ----------------------------------------------------------------------------------


def test_a_handler_that_raises(client: Client) -> None:
    workflow_id = ended(client)
    handler = Failing()
    with counted(client, failed=1):
        assert client.dispatch_callbacks(handler) == DispatchReport(delivered=0, failed=1)
    # With a jitter of almost nothing it may be due again at once, but not in the same run.
    assert handler.calls == 1
    [after] = client.callbacks(workflow_id)
    assert (after.status, after.attempts) == ("pending", 1)
    assert after.due_at is not None
    assert 0 <= (after.due_at - after.occurred_at).total_seconds() <= 30
    hasten(client, workflow_id)
    with counted(client, delivered=1):
        assert client.dispatch_callbacks(ignore).delivered == 1
    assert client.callbacks(workflow_id)[0].attempts == 2


def test_backoff_grows(one_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.999999)
    workflow_id = ended(one_client)
    delays = []
    for _ in range(11):
        hasten(one_client, workflow_id)
        one_client.dispatch_callbacks(Failing())
        [after] = one_client.callbacks(workflow_id)
        assert after.due_at is not None
        delays.append((after.due_at - after.occurred_at).total_seconds())
    for number, delay in enumerate(delays):
        assert min(2**number, 300) - 0.1 <= delay <= min(2**number, 300) + 30
    assert one_client.dispatch_callbacks(ignore).delivered == 0


def test_one_failure_stops_no_other(client: Client) -> None:
    ids = [ended(client) for _ in range(6)]

    def handler(envelope: Callback) -> None:
        if envelope.workflow_id == ids[2]:
            raise ValueError

    assert client.dispatch_callbacks(handler) == DispatchReport(delivered=5, failed=1)


def test_a_dispatcher_that_died_after_its_work(client: Client) -> None:
    workflow_id = ended(client)
    claimed(client, lease=0.02)
    assert client.callbacks(workflow_id)[0].status == "leased"
    assert client.explain(workflow_id).callbacks == CallbackPosture(pending=1)
    with counted(client, failed=1, delivered=1):
        until(lambda: client.dispatch_callbacks(ignore).delivered, what="the lease to end")
    assert client.callbacks(workflow_id)[0].attempts == 2


def test_a_lease_is_respected(client: Client) -> None:
    workflow_id = ended(client)
    claimed(client, lease=600)
    assert client.dispatch_callbacks(ignore) == DispatchReport(delivered=0, failed=0)
    assert client.callbacks(workflow_id)[0].attempts == 1


def test_a_handler_that_hangs_past_its_lease(client: Client, server: AnyServer) -> None:
    """Another dispatcher takes over; the first one's late report does no harm."""
    workflow_id = ended(client)

    def slow(envelope: Callback) -> None:
        with connect(server) as other:
            until(lambda: other.dispatch_callbacks(ignore).delivered, what="the other's delivery")

    assert client.dispatch_callbacks(slow, lease=0.02).delivered == 1
    assert client.callbacks(workflow_id)[0].status == "delivered"
    assert noted(client, workflow_id)[-1] == (
        "dispatch_callbacks",
        None,
        "duplicate",
        "duplicate_delivery",
    )
    assert stat(client, "cb|workflow.terminal|delivered") == 1


def test_a_late_failure_is_ignored(client: Client) -> None:
    workflow_id = ended(client)
    late = claimed(client, lease=0.02)
    until(lambda: client.dispatch_callbacks(ignore).delivered, what="the lease to end")
    settled(client, late, OSError())
    assert client.callbacks(workflow_id)[0].status == "delivered"
    assert noted(client, workflow_id)[-1] == (
        "dispatch_callbacks",
        None,
        "rejected",
        "stale_lease",
    )


def test_a_late_failure_does_not_end_anothers_claim(client: Client) -> None:
    workflow_id = ended(client)
    late = claimed(client)
    hasten(client, workflow_id)
    current = claimed(client)
    settled(client, late, OSError())
    assert client.callbacks(workflow_id)[0].status == "leased"
    settled(client, current)
    assert client.callbacks(workflow_id)[0].status == "delivered"


def test_a_late_delivery_counts(client: Client) -> None:
    workflow_id = ended(client)
    late = claimed(client)
    hasten(client, workflow_id)
    current = claimed(client)
    settled(client, late)
    assert client.callbacks(workflow_id)[0].status == "delivered"
    settled(client, late)  # the report that counted, repeated, is no second delivery
    duplicate = ("dispatch_callbacks", None, "duplicate", "duplicate_delivery")
    assert duplicate not in noted(client, workflow_id)
    settled(client, current)
    assert duplicate in noted(client, workflow_id)
    settled(client, current, OSError())
    assert client.callbacks(workflow_id)[0].status == "delivered"
    assert client.dispatch_callbacks(ignore).delivered == 0


def test_two_deliveries_of_two_claims(one_client: Client) -> None:
    workflow_id = ended(one_client)
    late = claimed(one_client)
    hasten(one_client, workflow_id)
    current = claimed(one_client)
    settled(one_client, late)
    settled(one_client, current)
    assert noted(one_client, workflow_id)[-1][2:] == ("duplicate", "duplicate_delivery")
    assert stat(one_client, "cb|workflow.terminal|delivered") == 1


@pytest.mark.one_face
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_delivers_nothing(client: Client, error: type[BaseException]) -> None:
    workflow_id = ended(client)

    def handler(envelope: Callback) -> None:
        raise error

    with pytest.raises(error):
        client.dispatch_callbacks(handler)
    assert client.callbacks(workflow_id)[0].status == "leased"


# --- dead -------------------------------------------------------------------------------------


def test_twenty_failures_are_enough(client: Client) -> None:
    workflow_id = ended(client)
    fail(client, workflow_id, 19)
    assert client.explain(workflow_id).operator_status == "Resolved"
    with counted(client, failed=1, dead=1):
        fail(client, workflow_id, 1)
    [dead] = client.callbacks(workflow_id)
    assert (dead.status, dead.attempts, dead.due_at) == ("dead", 20, None)
    assert client.dispatch_callbacks(ignore) == DispatchReport(delivered=0, failed=0)
    why = client.explain(workflow_id)
    assert why.callbacks == CallbackPosture(dead=1)
    assert (why.operator_status, why.state) == ("Needs Review", "completed")
    page = client.list(status="Needs Review")
    assert [found.id for found in page.workflows] == [workflow_id]
    assert page.operator_statuses == ("Needs Review",)
    assert client.list(status="Resolved").workflows == ()
    entry = client.evidence(workflow_id)[-1]
    assert (entry.status, entry.reason_code) == ("accepted", "callback_dead")
    assert entry.message == "callback 1 failed 20 times, at last OSError"
    assert stat(client, "gc|dead") == 1

    again = client.resend_callback(dead.callback_id, actor="me")
    assert (again.status, again.attempts) == ("pending", 0)
    assert [again] == client.callbacks(workflow_id)
    assert client.explain(workflow_id).operator_status == "Resolved"
    entry = client.evidence(workflow_id)[-1]
    assert (entry.action, entry.status, entry.actor) == ("resend_callback", "accepted", "me")
    assert entry.metadata == {"callback_id": dead.callback_id}
    assert client.dispatch_callbacks(ignore).delivered == 1
    assert (stat(client, "gc|dead"), stat(client, "gc|delivered")) == (0, 1)


def test_claims_that_nobody_acknowledges_end_too(client: Client) -> None:
    workflow_id = ended(client)
    with counted(client, failed=20, dead=1):
        for _ in range(20):
            hasten(client, workflow_id)
            claimed(client)
        hasten(client, workflow_id)
        assert client.dispatch_callbacks(ignore) == DispatchReport(delivered=0, failed=0)
    [dead] = client.callbacks(workflow_id)
    assert (dead.status, dead.attempts) == ("dead", 20)
    assert client.evidence(workflow_id)[-1].message.endswith("at last never acknowledged")


def test_a_late_delivery_brings_back_a_dead_one(client: Client) -> None:
    workflow_id = ended(client)
    fail(client, workflow_id, 19)
    hasten(client, workflow_id)
    late = claimed(client)
    hasten(client, workflow_id)
    client.dispatch_callbacks(ignore)
    assert client.callbacks(workflow_id)[0].status == "dead"
    settled(client, late)
    assert client.callbacks(workflow_id)[0].status == "delivered"
    assert client.explain(workflow_id).operator_status == "Resolved"


def test_no_name_of_a_users_error_can_break_the_evidence(client: Client) -> None:
    workflow_id = ended(client)
    error = type("x|y,z", (Exception,), {})
    for _ in range(20):
        hasten(client, workflow_id)
        settled(client, claimed(client), error())
    assert client.evidence(workflow_id)[-1].message.endswith("at last an error")


# --- sending again ----------------------------------------------------------------------------


def test_a_delivered_one_can_be_sent_again(client: Client) -> None:
    workflow_id = ended(client)
    client.dispatch_callbacks(ignore)
    client.resend_callback(f"{workflow_id}/1")
    got: list[Callback] = []
    assert client.dispatch_callbacks(got.append).delivered == 1
    assert got[0].callback_id == f"{workflow_id}/1"


def test_sending_again_twice_is_once(client: Client) -> None:
    workflow_id = ended(client)
    client.dispatch_callbacks(ignore)
    first = client.resend_callback(f"{workflow_id}/1")
    assert client.resend_callback(f"{workflow_id}/1") == first
    assert [entry[2:] for entry in noted(client, workflow_id)[1:]] == [
        ("accepted", None),
        ("duplicate", "duplicate_resend"),
    ]
    assert client.dispatch_callbacks(ignore).delivered == 1


def test_an_old_acknowledgement_does_not_stand_for_a_new_sending(client: Client) -> None:
    workflow_id = ended(client)
    late = claimed(client)
    hasten(client, workflow_id)
    client.dispatch_callbacks(ignore)
    client.resend_callback(f"{workflow_id}/1")
    settled(client, late)
    assert client.callbacks(workflow_id)[0].status == "pending"
    assert client.dispatch_callbacks(ignore).delivered == 1


def test_what_comes_again_by_itself_is_not_sent_again(client: Client) -> None:
    workflow_id = ended(client)
    fail(client, workflow_id, 1)
    with refused("illegal_transition"):
        client.resend_callback(f"{workflow_id}/1")
    # A refusal needs no review where the workflow has ended.
    assert client.explain(workflow_id).operator_status == "Resolved"
    hasten(client, workflow_id)
    client.dispatch_callbacks(ignore)
    client.resend_callback(f"{workflow_id}/1")
    assert client.explain(workflow_id).operator_status == "Resolved"


def test_callbacks_that_do_not_exist(client: Client) -> None:
    workflow_id = ended(client)
    for nonsense in ("", "x", workflow_id, f"{workflow_id}/", f"{workflow_id}/0", None, 7, "/1"):
        with refused("invalid_argument|workflow_not_found"):
            client.resend_callback(nonsense)  # type: ignore[arg-type]
    assert len(client.evidence(workflow_id)) == 1
    with refused("invalid_argument"):
        client.resend_callback(f"{workflow_id}/2")
    assert noted(client, workflow_id)[-1][2:] == ("rejected", "invalid_argument")
    with refused("workflow_not_found"):
        client.resend_callback(f"{workflow_id.partition('-')[0]}-{'a' * 16}/1")
    with refused("workflow_not_found"):
        client.resend_callback(f"999-{'a' * 16}/1")


# --- the outbox is derived --------------------------------------------------------------------


def _lose(redis: Any, outbox: str, member: str) -> None:
    redis.delete(outbox)


def _move(redis: Any, outbox: str, member: str) -> None:
    redis.zadd(outbox, {member: 9e12})


@pytest.mark.parametrize("damage", [_lose, _move])
def test_an_entry_that_is_lost_is_restored(
    client: Client, damage: Callable[[Any, str, str], None]
) -> None:
    workflow_id = ended(client)
    outbox = partition_key(workflow_id, "outbox")
    before = raw(client).zrange(outbox, 0, -1, withscores=True)
    damage(raw(client), outbox, f"{workflow_id}|1")
    assert client.dispatch_callbacks(ignore).delivered == 0
    repairs = client.reconcile(workflow_id).repairs
    assert [repair.kind for repair in repairs] == ["callback_entry_missing"]
    assert raw(client).zrange(outbox, 0, -1, withscores=True) == before
    assert client.reconcile(workflow_id).repairs == ()
    assert client.dispatch_callbacks(ignore).delivered == 1


def test_an_entry_too_many_is_removed(client: Client) -> None:
    workflow_id = ended(client)
    client.dispatch_callbacks(ignore)
    raw(client).zadd(partition_key(workflow_id, "outbox"), {f"{workflow_id}|1": 5})
    repairs = client.reconcile(workflow_id).repairs
    assert [repair.kind for repair in repairs] == ["callback_entry_wrong"]
    assert stat(client, "rr|callback_entry_wrong") == 1


def test_entries_that_are_wrong_deliver_nothing_and_go(client: Client) -> None:
    delivered, late = ended(client), ended(client)
    client.dispatch_callbacks(ignore)
    client.resend_callback(f"{late}/1")
    claimed(client, lease=600)
    for workflow_id, number in ((delivered, 1), (delivered, 9), (late, 1)):
        raw(client).zadd(partition_key(workflow_id, "outbox"), {f"{workflow_id}|{number}": 5})
    gone = f"{late[:-1]}{'b' if late[-1] == 'a' else 'a'}"
    raw(client).zadd(partition_key(gone, "outbox"), {f"{gone}|1": 5})
    assert client.dispatch_callbacks(ignore) == DispatchReport(delivered=0, failed=0)


def test_a_healthy_outbox_is_left_alone(client: Client) -> None:
    ids = []
    for failures in (20, 3, 0):
        ids.append(ended(client))
        fail(client, ids[-1], failures)
    before = stored(client)
    for workflow_id in ids:
        assert client.reconcile(workflow_id).repairs == ()
    assert stored(client) == before


def test_what_the_header_counts_is_put_right(client: Client) -> None:
    workflow_id = ended(client)
    fail(client, workflow_id, 20)
    key = own_key(workflow_id)
    true = raw(client).hget(key, ":c")
    assert true.endswith(b",1,0,1,0,,")
    for wrong in (b",1,1,0,0,,", b",0,0,0,0,,"):
        raw(client).hset(key, ":c", true[:-10] + wrong)
        repairs = client.reconcile(workflow_id).repairs
        assert [repair.kind for repair in repairs] == ["counts_wrong"]
        assert client.explain(workflow_id).operator_status == "Needs Review"
        assert client.reconcile(workflow_id).repairs == ()


def test_hundreds_of_callbacks_of_one_workflow(one_client: Client) -> None:
    workflow_id = ended(one_client)
    with_callbacks(one_client, workflow_id, 450)
    redis = raw(one_client)
    redis.delete("rwf:{0}:outbox")
    assert len(one_client.reconcile(workflow_id).repairs) == 450
    assert one_client.reconcile(workflow_id).repairs == ()
    assert len(one_client.callbacks(workflow_id)) == 450
    assert one_client.explain(workflow_id).callbacks == CallbackPosture(pending=450)
    assert one_client.dispatch_callbacks(ignore, limit=1000).delivered == 450


@pytest.mark.one_face
def test_what_cannot_be_sent_hides_nothing(one_client: Client, broken_on_purpose: None) -> None:
    """Workflows of other semantics, and entries without a callback, come before everything that is
    due."""
    redis = raw(one_client)
    for _ in range(130):
        key = own_key(ended(one_client))
        redis.hset(key, ":s", b"9" + redis.hget(key, ":s")[1:])
    ids = {ended(one_client) for _ in range(5)}
    redis.zadd("rwf:{0}:outbox", {f"nonsense{number}": number for number in range(130)})
    got: set[str] = set()
    for _ in range(5):
        one_client.dispatch_callbacks(lambda one: got.add(one.workflow_id), limit=1)
    assert got == ids
    assert redis.zcard("rwf:{0}:outbox") == 260


def test_other_semantics_are_not_sent_again(one_client: Client, broken_on_purpose: None) -> None:
    workflow_id = ended(one_client)
    one_client.dispatch_callbacks(ignore)
    redis, key = raw(one_client), own_key(workflow_id)
    redis.hset(key, ":s", b"9" + redis.hget(key, ":s")[1:])
    with refused("unsupported_semantics"):
        one_client.resend_callback(f"{workflow_id}/1")
    assert noted(one_client, workflow_id)[-1][2:] == ("rejected", "unsupported_semantics")
    assert one_client.callbacks(workflow_id)[0].status == "delivered"


# --- asyncio ----------------------------------------------------------------------------------


class Handler:
    """Handlers of several kinds, which note their thread and fail when told."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None

    def plain(self, envelope: Callback) -> None:
        self.got.append(envelope.callback_id)
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error

    async def coroutine(self, envelope: Callback) -> None:
        await asyncio.sleep(0)
        self.plain(envelope)

    async def __call__(self, envelope: Callback) -> None:
        await self.coroutine(envelope)


def asynchronous(server: AnyServer) -> AsyncClient:
    return AsyncClient.from_url(server.url, partitions=16 if server.kind == "cluster" else None)


def test_async_handlers(client: Client, server: AnyServer) -> None:
    handler = Handler()

    async def run() -> None:
        async with asynchronous(server) as other:
            for kind in (handler, handler.coroutine, lambda one: handler.coroutine(one)):
                workflow_id = ended(client)
                assert (await other.dispatch_callbacks(kind)).delivered == 1
                assert handler.got.pop() == f"{workflow_id}/1"
                assert handler.threads == {threading.get_ident()}
            ended(client)
            handler.threads.clear()
            assert (await other.dispatch_callbacks(handler.plain)).delivered == 1
            assert threading.get_ident() not in handler.threads
            # A plain handler's StopIteration must not be lost on its way out of the thread.
            for error in (OSError(), StopIteration(), TimeoutError()):
                handler.error = error
                ended(client)
                assert (await other.dispatch_callbacks(handler.plain)).failed >= 1
                ended(client)
                assert (await other.dispatch_callbacks(handler)).failed >= 1

    asyncio.run(run())


def test_a_cancelled_dispatch_delivers_nothing(client: Client, server: AnyServer) -> None:
    workflow_id = ended(client)

    async def run() -> None:
        started = asyncio.Event()

        async def handler(envelope: Callback) -> None:
            started.set()
            await asyncio.Event().wait()

        async with asynchronous(server) as other:
            task = asyncio.create_task(other.dispatch_callbacks(handler))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert client.callbacks(workflow_id)[0].status == "leased"


@pytest.mark.one_face
def test_a_coroutine_is_not_for_the_blocking_client(one_client: Client) -> None:
    workflow_id = ended(one_client)
    handler = Handler()
    for kind in (handler, handler.coroutine):
        with refused("invalid_argument"):
            one_client.dispatch_callbacks(kind)
    assert one_client.dispatch_callbacks(lambda one: handler.coroutine(one)).failed == 1
    assert one_client.callbacks(workflow_id)[0].status == "pending"


# --- the command line -------------------------------------------------------------------------


def test_the_command(one_client: Client, cli: Cli) -> None:
    view = one_client.insert(flow("a"))
    assert cli.ok("callbacks", view.id) == "no callbacks\n"
    assert cli.json("callbacks", view.id) == []
    one_client.complete_step(view.id, "a")
    assert "workflow.terminal" in cli.ok("callbacks", view.id)
    assert "callbacks: 1 pending" in cli.ok("explain", view.id)
    fail(one_client, view.id, 20)
    [found] = cli.json("callbacks", view.id)
    assert (found["status"], found["attempts"]) == ("dead", 20)
    for command in ("ls", "show", "explain"):
        words = (command,) if command == "ls" else (command, view.id)
        assert "Needs Review" in cli.ok(*words)
        assert "Needs Review" in cli.ok(*words, "--json")
    [found] = cli.json("callbacks", view.id, "--resend", "--actor", "me")
    assert (found["status"], found["attempts"]) == ("pending", 0)
    assert one_client.evidence(view.id)[-1].actor == "me"
    # Callbacks that are not dead are left alone.
    assert cli.json("callbacks", view.id, "--resend") == [found]
    assert NO_ID in cli.refused(1, "callbacks", NO_ID)
