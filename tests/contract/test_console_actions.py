"""Acting in the console (contract §18): shown first, confirmed with a reason, recorded, and refused
without the right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from starlette.requests import Request

from rwf import Client
from rwf.console.access import TokenAccess
from rwf.console.actions import COMMANDS
from rwf.model.states import Action
from tests.support.consoles import Page, Visitor, console
from tests.support.flows import chain, fan_out, flow, states
from tests.support.servers import AnyServer
from tests.support.waiting import until


@pytest.fixture
def visitor(one_server: AnyServer) -> Iterator[Visitor]:
    with console(one_server.url, allow_actions=True) as found:
        yield found


def place(action: str, **given: str) -> str:
    return f"/act/{action}?{urlencode(given)}"


def preview(visitor: Visitor, action: str, **given: str) -> Page:
    return visitor.page(place(action, **given))


def confirm(
    visitor: Visitor, shown: Page, action: str, code: int = 303, /, **more: str
) -> tuple[str, str]:
    """Sends a page's form with a reason; returns the address that it leads to, and the text of the
    answer."""
    path = f"/act/{action}"
    answer = visitor.post(path, shown.fields(path) | {"reason": "the bank is back"} | more)
    assert answer.status_code == code, answer.text
    return answer.headers.get("location", ""), Page(answer.text).text


def failed(client: Client) -> str:
    view = client.insert(flow("a b:a c:b"))
    client.complete_step(view.id, "a")
    client.complete_step(view.id, "b", "failed", summary="no")
    return view.id


def last(client: Client, workflow_id: str) -> tuple[str, str, str | None, Any]:
    """The latest evidence: action, status, actor and reason."""
    entry = client.evidence(workflow_id)[-1]
    return entry.action, entry.status, entry.actor, entry.metadata.get("reason")


# --- recovery


def test_a_retry_is_shown_first_then_confirmed_then_recorded(
    one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    [link] = [
        link for link in visitor.page(f"/workflows/{workflow_id}").links if "do=retry" in link
    ]
    shown = visitor.page(link)
    assert "Dry run: 2 steps would change Step Now Then b failed → available" in shown.text
    assert "c cancelled → pending" in shown.text
    assert states(one_client, workflow_id) == "a=completed b=failed c=cancelled"
    where, _ = confirm(visitor, shown, "recover_step")
    assert where == f"/workflows/{workflow_id}"
    assert states(one_client, workflow_id) == "a=completed b=available c=pending"
    assert last(one_client, workflow_id) == ("recover_step", "accepted", "ann", "the bank is back")
    assert "The recovery was carried out." in visitor.page(where).text
    assert "The recovery was carried out." not in visitor.page(where).text


@pytest.mark.parametrize(
    ("action", "scope", "after"),
    [
        ("skip", "blocked", "a=completed b=completed c=available"),
        ("retry", "step", "a=completed b=available c=cancelled"),
    ],
)
def test_each_recovery_and_scope(
    one_client: Client, visitor: Visitor, action: str, scope: str, after: str
) -> None:
    workflow_id = failed(one_client)
    given = {"workflow": workflow_id, "step": "b", "do": action, "scope": scope}
    confirm(visitor, preview(visitor, "recover_step", **given), "recover_step")
    assert states(one_client, workflow_id) == after


def test_a_running_step_is_taken_away_only_when_that_is_asked_for(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.claim(["default"], worker_id="w")
    given = {"workflow": view.id, "step": "a", "do": "cancel"}
    refused = preview(visitor, "recover_step", **given)
    assert "It would be refused" in refused.text
    assert "Take the step away from the worker" in refused.text
    with pytest.raises(AssertionError, match="no form"):
        refused.fields("/act/recover_step")
    confirm(visitor, preview(visitor, "recover_step", force="yes", **given), "recover_step")
    assert states(one_client, view.id) == "a=cancelled b=cancelled"


def test_a_standing_cancel_request_is_closed_only_when_that_is_asked_for(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(flow("a b"))
    one_client.claim(["default"], worker_id="w")
    one_client.request_cancel(view.id)
    given = {"workflow": view.id, "step": "b", "do": "retry"}
    assert "It would be refused" in preview(visitor, "recover_step", **given).text
    confirm(visitor, preview(visitor, "recover_step", reopen="yes", **given), "recover_step")
    assert one_client.step(view.id, "b").state == "available"


def test_what_has_changed_meanwhile_is_shown_again(one_client: Client, visitor: Visitor) -> None:
    workflow_id = failed(one_client)
    shown = preview(visitor, "recover_step", workflow=workflow_id, step="b", do="retry")
    one_client.recover_step(workflow_id, "c", "skip", actor="bob")
    _, text = confirm(visitor, shown, "recover_step", 409)
    assert "Not done: things have changed since you looked" in text
    assert one_client.step(workflow_id, "b").state == "failed"
    assert last(one_client, workflow_id)[2] == "bob"


def test_a_form_that_is_sent_twice_is_carried_out_once(
    one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    shown = preview(visitor, "recover_step", workflow=workflow_id, step="b", do="retry")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: confirm(visitor, shown, "recover_step"), range(4)))
    assert {where for where, _ in found} == {f"/workflows/{workflow_id}"}
    entries = [one.status for one in one_client.evidence(workflow_id) if one.actor == "ann"]
    assert entries == ["accepted"]


def test_a_form_that_was_refused_can_be_sent_again(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a"))
    shown = preview(visitor, "acknowledge", workflow=view.id)
    confirm(visitor, shown, "acknowledge", 409)
    one_client.complete_step(view.id, "a", "failed")
    confirm(visitor, shown, "acknowledge")


# --- the other commands


def test_cancelling_a_workflow(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a b c"))
    one_client.claim(["default"], worker_id="w")
    shown = preview(visitor, "request_cancel", workflow=view.id)
    assert "2 steps that nobody runs: cancelled at once." in shown.text
    assert "1 step in hand: told at the next heartbeat" in shown.text
    confirm(visitor, shown, "request_cancel")
    assert one_client.get(view.id).cancel_reason == "the bank is back"
    forced = preview(visitor, "request_cancel", workflow=view.id, force="yes")
    assert "The workers lose their leases" in forced.text
    confirm(visitor, forced, "request_cancel")
    assert one_client.get(view.id).state == "cancelled"


def test_acknowledging_an_end(one_client: Client, visitor: Visitor) -> None:
    workflow_id = failed(one_client)
    [link] = [
        link for link in visitor.page(f"/workflows/{workflow_id}").links if "acknowledge" in link
    ]
    confirm(visitor, visitor.page(link), "acknowledge")
    view = one_client.get(workflow_id)
    assert (view.acknowledged_by, view.acknowledged_reason) == ("ann", "the bank is back")


@pytest.mark.parametrize(("days", "removed"), [("0", 1), ("0.5", 0), ("none", 0)])
def test_setting_how_long_a_workflow_is_kept(
    one_client: Client, visitor: Visitor, days: str, removed: int
) -> None:
    view = one_client.insert(flow("a"), retention=timedelta(days=1))
    one_client.complete_step(view.id, "a")
    confirm(
        visitor, preview(visitor, "set_retention", workflow=view.id), "set_retention", days=days
    )
    assert one_client.prune().workflows == removed


@pytest.mark.parametrize("days", ["", "x", "-1", "nan", "inf", "1e300", "<b>"])
def test_times_that_are_none(one_client: Client, visitor: Visitor, days: str) -> None:
    view = one_client.insert(flow("a"))
    shown = preview(visitor, "set_retention", workflow=view.id)
    confirm(visitor, shown, "set_retention", 400, days=days)


def test_sending_a_dead_or_delivered_callback_again(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    one_client.dispatch_callbacks(lambda _: None)
    page = visitor.page(f"/workflows/{view.id}/callbacks")
    [link] = [link for link in page.links if "/act/" in link]
    shown = visitor.page(link)
    assert "It is delivered after" in shown.text
    where, _ = confirm(visitor, shown, "resend_callback")
    assert where == f"/workflows/{view.id}/callbacks"
    [callback] = one_client.callbacks(view.id)
    assert callback.status == "pending"


@pytest.mark.parametrize("key", ["k", '"><script>', "ü\u202e \x1b"])
def test_withdrawing_a_signal(one_client: Client, visitor: Visitor, key: str) -> None:
    one_client.deliver_signal("paid", key)
    [link] = [link for link in visitor.page("/signals").links if "/act/" in link]
    where, _ = confirm(visitor, visitor.page(link), "withdraw_signal")
    assert where == "/signals"
    assert one_client.signals().signals == ()
    entry = one_client.evidence()[-1]
    assert (entry.action, entry.actor) == ("withdraw_signal", "ann")
    assert "no such signal" in visitor.page(link, 404).text


def test_delivering_the_signal_that_a_step_waits_for(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.await_step(view.id, "a", signal="go", correlation_key="k \u202e")
    page = visitor.page(f"/workflows/{view.id}/step?name=a")
    link = next(link for link in page.links if "deliver_signal" in link)
    shown = visitor.page(link)
    assert "Signal go is delivered under the key k \\u202e" in shown.text
    confirm(visitor, shown, "deliver_signal", 400, payload="{")
    shown = visitor.page(link)
    where, _ = confirm(visitor, shown, "deliver_signal", payload='{"n": 1}')
    assert where == f"/workflows/{view.id}/step?name=a"
    [claim] = one_client.claim(["default"], worker_id="w")
    assert claim.signal is not None
    assert claim.signal.payload == {"n": 1}
    assert "waits for no signal any more" in visitor.page(link, 404).text


def test_a_signal_that_changes_nothing_says_so(one_client: Client, visitor: Visitor) -> None:
    one_client.deliver_signal("go", "k", dedupe_key="was there")
    one_client.withdraw_signal(one_client.signals().signals[0].id)
    view = one_client.insert(flow("a b"))
    one_client.await_step(view.id, "b", signal="go", correlation_key="k")
    one_client.deliver_signal("go", "k", dedupe_key="was there")
    one_client.await_step(view.id, "a", signal="go", correlation_key="k")
    shown = preview(visitor, "deliver_signal", workflow=view.id, step="a")
    _, text = confirm(visitor, shown, "deliver_signal", 200, dedupe="was there")
    assert "Nothing has changed" in text


def test_reporting_an_outcome(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a b:a"))
    one_client.claim(["default"], worker_id="w-7")
    shown = preview(visitor, "complete_step", workflow=view.id, step="a")
    assert "w-7 runs it, and loses its lease" in shown.text
    confirm(visitor, shown, "complete_step", status="completed", payload='{"n": [1]}')
    assert states(one_client, view.id) == "a=completed b=available"
    result = one_client.result(view.id, "a")
    assert result is not None
    assert (result.payload, result.summary) == ({"n": [1]}, "the bank is back")


def test_reconciling(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a"))
    confirm(visitor, preview(visitor, "reconcile", workflow=view.id), "reconcile")


def test_every_action_that_is_done_or_refused_is_logged(
    one_client: Client, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rwf.console")
    view = one_client.insert(flow("a"))
    confirm(visitor, preview(visitor, "reconcile", workflow=view.id), "reconcile")
    shown = preview(visitor, "acknowledge", workflow=view.id)
    confirm(visitor, shown, "acknowledge", 409)
    lines = [record.getMessage() for record in caplog.records if record.name == "rwf.console"]
    assert lines == [
        f"reconcile done by ann: workflow={view.id}: the bank is back",
        f"acknowledge refused by ann: workflow={view.id}: the bank is back",
    ]


def test_no_reason_makes_a_line_of_the_log_of_its_own(
    one_client: Client, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "rwf.console")
    view = one_client.insert(flow("a"))
    shown = preview(visitor, "reconcile", workflow=view.id)
    confirm(visitor, shown, "reconcile", reason="x\nacknowledge done by bob\x1b[2J")
    [line] = [record.getMessage() for record in caplog.records if record.name == "rwf.console"]
    assert line.endswith(r"x\nacknowledge done by bob\x1b[2J")


# --- many workflows


def test_what_a_filter_finds_is_retried_at_once_and_the_session_shown(
    one_client: Client, visitor: Visitor
) -> None:
    ids = [failed(one_client) for _ in range(3)]
    other = one_client.insert(flow("a")).id
    assert not [link for link in visitor.page("/workflows").links if "/act/" in link]
    links = visitor.page("/workflows?state=failed&since=1h").links
    [link] = [one for one in links if "recover_many" in one and "do=retry" in one]
    shown = visitor.page(link)
    assert "3 workflows: state failed, since" in shown.text
    assert "Dry run of the oldest 3: 3 changed." in shown.text
    assert "Each failed step of each workflow runs again." in shown.text
    assert one_client.bulks() == []
    where, _ = confirm(visitor, shown, "recover_many")
    [session] = one_client.bulks()
    assert where == f"/bulk/{session.id}"
    until(lambda: one_client.bulk(str(session.id)).finished_at, what="the session to end")
    page = visitor.page(where)
    assert "The session has begun." in page.text
    assert "3 workflows, none of which has refused" in page.text
    assert "by ann: the bank is back" in page.text
    assert {states(one_client, id_) for id_ in ids} == {"a=completed b=available c=pending"}
    assert last(one_client, ids[0])[2:] == ("ann", "the bank is back")
    assert f"/bulk/{session.id}" in visitor.page("/bulk").links
    assert states(one_client, other) == "a=available"


def test_a_filters_workflows_are_cancelled_at_once(one_client: Client, visitor: Visitor) -> None:
    ids = [one_client.insert(flow("a", "billing")).id for _ in range(2)]
    shown = preview(visitor, "cancel_many", name="billing")
    assert "2 workflows: name billing." in shown.text
    confirm(visitor, shown, "cancel_many")
    assert {states(one_client, id_) for id_ in ids} == {"a=cancelled"}


def test_a_session_of_many_slices_goes_on_without_its_visitor_until_it_is_stopped(
    one_client: Client, visitor: Visitor
) -> None:
    one_client.insert_many([flow("a", "billing")] * 400)
    where, _ = confirm(visitor, preview(visitor, "cancel_many", name="billing"), "cancel_many")
    session_id = where.removeprefix("/bulk/")
    shown = preview(visitor, "stop_bulk", session=session_id)
    assert confirm(visitor, shown, "stop_bulk")[0] == where
    until(lambda: one_client.bulk(session_id).finished_at, what="the session to end")
    done = one_client.bulk(session_id)
    assert 50 <= done.selected <= 400
    if done.stopped_by:
        assert "Stopped by ann: the bank is back" in visitor.page(where).text


def test_a_bulk_command_that_is_sent_twice_is_one_session(
    one_client: Client, visitor: Visitor
) -> None:
    failed(one_client)
    shown = preview(visitor, "recover_many", do="retry", state="failed")
    assert confirm(visitor, shown, "recover_many")[0] == confirm(visitor, shown, "recover_many")[0]
    assert len(one_client.bulks()) == 1


@pytest.mark.parametrize(
    "given",
    [{}, {"do": "retry"}, {"do": "delete", "state": "failed"}, {"do": "retry", "since": "soon"}],
)
def test_bulk_commands_on_nothing_or_everything(visitor: Visitor, given: dict[str, str]) -> None:
    assert visitor.get(place("recover_many", **given)).status_code == 400
    assert visitor.get(place("cancel_many", since="soon")).status_code == 400
    assert visitor.get(place("cancel_many")).status_code == 400


# --- refusals


def everything(client: Client) -> dict[str, dict[str, str]]:
    """The arguments of each action, in a namespace in which each may be done."""
    bad, waits = failed(client), client.insert(flow("a"))
    client.await_step(waits.id, "a", signal="go", correlation_key="k")
    kept = client.deliver_signal("paid", "k")
    done = client.insert(flow("a"))
    client.complete_step(done.id, "a")
    client.dispatch_callbacks(lambda _: None)
    open_ = client.insert(flow("a"))
    [callback] = client.callbacks(done.id)
    session = client.cancel_many({"name": "nobody"}, actor="ann", reason="none")
    return {
        "recover_step": {"workflow": bad, "step": "b", "do": "retry"},
        "complete_step": {"workflow": open_.id, "step": "a", "status": "completed"},
        "deliver_signal": {"workflow": waits.id, "step": "a"},
        "withdraw_signal": {"signal": kept.id, "name": "paid", "key": "k"},
        "request_cancel": {"workflow": open_.id},
        "acknowledge": {"workflow": bad},
        "set_retention": {"workflow": open_.id, "days": "3"},
        "resend_callback": {"workflow": done.id, "callback": callback.callback_id},
        "reconcile": {"workflow": open_.id},
        "recover_many": {"do": "retry", "state": "failed"},
        "cancel_many": {"name": "flow"},
        "stop_bulk": {"session": str(session.id)},
    }


def evidence_of_all(client: Client) -> int:
    found = [client.evidence(view.id) for view in client.list().workflows]
    others = len(client.evidence()) + len(client.signals().signals) + len(client.bulks())
    return sum(map(len, found)) + others


def test_every_action_is_known() -> None:
    assert set(COMMANDS) == {
        Action.RECOVER_STEP, Action.COMPLETE_STEP, Action.DELIVER_SIGNAL, Action.WITHDRAW_SIGNAL,
        Action.REQUEST_CANCEL, Action.ACKNOWLEDGE, Action.SET_RETENTION, Action.RESEND_CALLBACK,
        Action.RECONCILE, "recover_many", "cancel_many", "stop_bulk",
    }  # fmt: skip


def test_looking_at_any_action_does_nothing(one_client: Client, visitor: Visitor) -> None:
    given = everything(one_client)
    before = evidence_of_all(one_client)
    for action, values in given.items():
        page = preview(visitor, action, **values, reason="x", once="0" * 32)
        assert page.fields(f"/act/{action}")["rwf_csrf"]
        assert visitor.get(f"/act/{action}").status_code in (400, 404)
    assert evidence_of_all(one_client) == before


def test_a_console_that_is_read_only_has_no_actions(
    one_client: Client, one_server: AnyServer
) -> None:
    given = everything(one_client)
    before = evidence_of_all(one_client)
    with console(one_server.url) as reader, console(one_server.url, allow_actions=True) as actor:
        for action, values in given.items():
            fields = preview(actor, action, **values).fields(f"/act/{action}") | {"reason": "x"}
            reader.http.cookies = actor.http.cookies
            assert reader.get(place(action, **values)).status_code == 404
            assert reader.post(f"/act/{action}", fields | values).status_code == 404
        for path in ("/", f"/workflows/{given['recover_step']['workflow']}", "/signals"):
            page = reader.page(path)
            assert "read-only" in page.text
            assert not [link for link in page.links if "/act/" in link]
    assert evidence_of_all(one_client) == before


def test_each_action_is_authorised_by_its_name(one_client: Client, one_server: AnyServer) -> None:
    given = everything(one_client)
    allowed: set[str] = set(COMMANDS)

    def some(_request: Request, action: str) -> str | None:
        return "ann" if action == "read" or action in allowed else None

    before = evidence_of_all(one_client)
    with console(one_server.url, authorize=some, allow_actions=True) as visitor:
        for action, values in given.items():
            fields = preview(visitor, action, **values).fields(f"/act/{action}") | values
            allowed.discard(action)
            assert visitor.get(place(action, **values)).status_code == 403
            assert visitor.post(f"/act/{action}", fields | {"reason": "x"}).status_code == 403
            assert allowed == set(COMMANDS) - {action}
            allowed.add(action)
        allowed.clear()
        for path in ("/", f"/workflows/{given['recover_step']['workflow']}", "/signals"):
            assert not [link for link in visitor.page(path).links if "/act/" in link]
    assert evidence_of_all(one_client) == before


Change = Callable[[dict[str, str]], dict[str, str]]


@pytest.mark.parametrize(
    ("headers", "change", "status"),
    [
        ({"origin": "https://evil.example"}, None, 403),
        ({"origin": "https://evil.example", "sec_fetch_site": None}, None, 403),
        ({"sec_fetch_site": "cross-site"}, None, 403),
        ({"sec_fetch_site": "same-site"}, None, 403),
        ({"sec_fetch_site": "none"}, None, 403),
        ({"origin": "null", "sec_fetch_site": None}, None, 403),
        ({"origin": None, "sec_fetch_site": None}, None, 403),
        ({"origin": "http://127.0.0.1:1", "sec_fetch_site": None}, None, 403),
        ({}, {"rwf_csrf": ""}, 403),
        ({}, {"rwf_csrf": "x" * 43}, 403),
        ({"cookie": ""}, None, 403),
        ({"cookie": "rwf_csrf="}, {"rwf_csrf": ""}, 403),
        ({"content_type": "text/plain"}, None, 415),
        ({"content_type": "multipart/form-data"}, None, 415),
        ({"content_type": "application/json"}, None, 415),
        ({}, {"reason": ""}, 400),
        ({}, {"reason": "   "}, 400),
        ({}, {"reason": "x" * 513}, 400),
        ({}, {"once": "x"}, 400),
        ({}, {"once": ""}, 400),
        ({}, {"scope": "all"}, 400),
        ({}, {"do": "delete"}, 400),
    ],
)
def test_forms_that_are_no_confirmation(
    one_client: Client,
    visitor: Visitor,
    headers: dict[str, str | None],
    change: dict[str, str] | None,
    status: int,
) -> None:
    workflow_id = failed(one_client)
    before = evidence_of_all(one_client)
    shown = preview(visitor, "recover_step", workflow=workflow_id, step="b", do="retry")
    fields = shown.fields("/act/recover_step") | {"reason": "x"} | (change or {})
    assert visitor.post("/act/recover_step", fields, **headers).status_code == status
    assert evidence_of_all(one_client) == before
    assert states(one_client, workflow_id) == "a=completed b=failed c=cancelled"


def test_a_form_with_a_field_twice_or_too_much_is_refused(
    one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    shown = preview(visitor, "recover_step", workflow=workflow_id, step="b", do="retry")
    fields = urlencode(shown.fields("/act/recover_step") | {"reason": "x"})
    kind = {
        "content-type": "application/x-www-form-urlencoded",
        "origin": visitor.origin, "sec-fetch-site": "same-origin",
    }  # fmt: skip
    for body, status in (
        (f"{fields}&do=skip", 400),
        (f"{fields}&" + "&".join(f"f{n}=" for n in range(40)), 400),
        (f"{fields}&more=" + "x" * 1_100_000, 413),
        (f"{fields}&more=%ff", 400),
        (fields + "&more=\xff", 400),
        ("", 403),
    ):
        found = visitor.http.post("/act/recover_step", content=body, headers=kind)
        assert found.status_code == status, body[:200]
    assert one_client.step(workflow_id, "b").state == "failed"


def test_actions_behind_a_token_need_a_session_and_carry_its_name(
    one_client: Client, one_server: AnyServer
) -> None:
    workflow_id = failed(one_client)
    access = TokenAccess("correct-horse-battery")
    with console(one_server.url, login=access, allow_actions=True) as visitor:
        given = {"workflow": workflow_id, "step": "b", "do": "retry", "reason": "x"}
        assert visitor.get(place("recover_step", **given)).status_code == 303
        assert visitor.post("/act/recover_step", given).status_code == 403
        fields = visitor.page("/login").fields("/login")
        visitor.post("/login", fields | {"token": "correct-horse-battery", "actor": "zoë"})
        shown = visitor.page(place("recover_step", **given))
        confirm(visitor, shown, "recover_step")
    assert last(one_client, workflow_id)[2] == "zoë"


def test_a_refusal_of_the_server_is_shown_with_what_may_be_done(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(flow("a b:a"))
    shown = preview(visitor, "complete_step", workflow=view.id, step="b")
    _, text = confirm(visitor, shown, "complete_step", 409, status="completed")
    assert "dependencies_unresolved; next: explain_step" in text


def test_a_large_dry_run_is_shown_in_part(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(fan_out(2_000))
    one_client.complete_step(view.id, "root", "failed")
    shown = preview(visitor, "recover_step", workflow=view.id, step="root", do="retry")
    assert "Dry run: 2,001 steps would change" in shown.text
    assert "and 1901 more" in shown.text
    confirm(visitor, shown, "recover_step")
    assert one_client.step(view.id, "root").state == "available"


def test_unknown_actions_and_targets(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(chain(2))
    assert visitor.get("/act/insert").status_code == 404
    for path in (
        place("recover_step", workflow=view.id, step="none", do="retry"),
        place("recover_step", workflow="0-aaaaaaaaaaaaaaaa", step="a", do="retry"),
        place("resend_callback", workflow=view.id, callback="x"),
        place("withdraw_signal", signal="x", name="paid", key="k"),
    ):
        assert visitor.get(path).status_code in (400, 404), path
    assert quote(view.id) == view.id
