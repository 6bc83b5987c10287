"""The console's pages (contract §18): first the fault, then its reason, then the possible
actions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import quote

import pytest

from rwf import Client, Worker, Workflow
from tests.support.children_cases import started
from tests.support.commandline import NO_ID
from tests.support.consoles import Page, Visitor, commands, console
from tests.support.flows import chain, fan_out, flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import at_work, client_of

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x1b[31m\x00 &amp; \"'"
"""Markup, a mark of direction, a terminal's sequence, NUL and quotes."""
SHOWN = "</script><img src=x onerror=alert(1)>\\u202e\\x1b[31m\\x00 &amp; \"'"


@pytest.fixture
def visitor(one_server: AnyServer) -> Iterator[Visitor]:
    with console(one_server.url) as found:
        yield found


def before(page: Page, *texts: str) -> None:
    """Asserts that a page has these texts, in this order."""
    at = 0
    for text in texts:
        place = page.text.find(text, at)
        assert place >= 0, f"{text!r} is not there, or too early, in: {page.text}"
        at = place + len(text)


def failed(client: Client, name: str = "flow", summary: str = "no such card") -> str:
    """A workflow in which b has failed, which has cancelled c."""
    view = client.insert(flow("a b:a c:b d:+b", name=name))
    client.complete_step(view.id, "a", payload={"n": 1}, summary="done")
    client.complete_step(view.id, "b", "failed", summary=summary)
    return view.id


# --- the overview


def test_the_overview_of_an_empty_namespace(visitor: Visitor) -> None:
    page = visitor.page("/")
    before(page, "Nothing needs you", "0 ! Needs Review", "No workflow has a failure")


def test_the_overview_leads_with_what_needs_review_by_its_reason(
    one_client: Client, visitor: Visitor
) -> None:
    for _ in range(3):
        failed(one_client, "billing", summary="503 from the bank")
    other = failed(one_client, "shipping", summary="too heavy")
    page = visitor.page("/")
    before(
        page, "4 workflows need review", "4 ! Needs Review",
        "3\u00d7 billing · step b failed", "503 from the bank",
        "1\u00d7 shipping · step b failed", "too heavy", other,
    )  # fmt: skip
    assert page.text.count("503 from the bank") == 1
    assert f"/workflows/{other}" in page.links


def test_the_overview_tells_of_queues_that_nobody_serves(
    one_client: Client, one_server: AnyServer, visitor: Visitor
) -> None:
    one_client.insert(flow("a", queue="billing"))
    page = visitor.page("/")
    before(page, "Nothing needs review; something is blocked", "Queue billing : 1 step waits")
    assert "rwf worker MODULE:WORKER --queues billing" in commands(page)
    one_client.claim(["billing"], worker_id="w")
    one_client.insert(flow("a", queue="billing"))
    with console(one_server.url) as again:  # the first client caches its reads for a while
        assert "Queue billing" not in again.page("/").text


def test_the_overview_tells_of_cancel_requests_that_have_not_ended(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(flow("a"))
    one_client.claim(["default"], worker_id="w")
    one_client.request_cancel(view.id)
    page = visitor.page("/")
    before(page, "Blocked", f"flow {view.id} was asked to end")


# --- finding workflows


def test_workflows_by_status_state_and_name(one_client: Client, visitor: Visitor) -> None:
    bad, good = failed(one_client, "bad"), one_client.insert(flow("a", name="good")).id
    assert [found(visitor, f"/workflows{query}") for query in (
        "", "?status=Needs+Review", "?state=available", "?name=good", "?name=none",
    )] == [[good, bad], [bad], [good, bad], [good], []]  # fmt: skip
    page = visitor.page("/workflows?status=Needs+Review&state=available&name=bad")
    selected = [attrs for tag, attrs in page.tags if tag == "option" and "selected" in attrs]
    assert len(selected) == 2
    before(page, "Newest first", "! Needs Review", "bad", "available")


def found(visitor: Visitor, path: str) -> list[str]:
    """The ids of the workflows that a page lists."""
    links = visitor.page(path).links
    return [link.removeprefix("/workflows/") for link in links if re.match("/workflows/0-", link)]


def test_more_workflows_than_a_page_has(one_client: Client, visitor: Visitor) -> None:
    ids = [view.id for view in one_client.insert_many(flow("a") for _ in range(60))]
    page = visitor.page("/workflows?name=flow")
    [following] = [link for link in page.links if "cursor" in link]
    assert "name=flow" in following
    both = found(visitor, "/workflows?name=flow") + found(visitor, following)
    assert both == ids[::-1]


@pytest.mark.parametrize("query", ["state=odd", "status=odd", "cursor=odd"])
def test_filters_that_are_none(visitor: Visitor, query: str) -> None:
    assert "Refused" in visitor.page(f"/workflows?{query}", 400).text


def test_a_workflow_is_found_by_its_id_and_by_its_key(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a"), key="order/7 ü")
    for asked in (view.id, "order/7 ü", f" {view.id} "):
        answer = visitor.get(f"/find?q={quote(asked)}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/workflows/{view.id}")
    for unknown in ("nothing", NO_ID, "<b>", "", "x" * 600):
        missed = visitor.page(f"/find?q={quote(unknown)}", 404).text
        assert "Not found" in missed
        assert "Find" in missed  # the button, to look for another


def test_workflows_by_time_and_tag(one_client: Client, visitor: Visitor) -> None:
    tagged = one_client.insert(flow("a", tags={"account": "42"})).id
    plain = one_client.insert(flow("a")).id
    assert [found(visitor, f"/workflows?{query}") for query in (
        "since=1h", "until=1h", "tag=account%3D42&since=1h", "until=9999-01-01",
    )] == [[plain, tagged], [], [tagged], [plain, tagged]]  # fmt: skip
    fields = [attrs for tag, attrs in visitor.page("/workflows?since=1h").tags if tag == "input"]
    assert "1h" in [attrs.get("value") for attrs in fields if attrs.get("name") == "since"]


# --- bulk sessions


def test_no_bulk_sessions(visitor: Visitor) -> None:
    page = visitor.page("/bulk")
    before(page, "Bulk sessions", "None in the last 30 days")
    assert commands(page) == ["rwf recover --all --state failed retry --dry-run"]
    assert "Not found" in visitor.page("/bulk/nobody", 404).text


def test_a_session_leads_with_who_has_refused_by_their_reasons(
    one_client: Client, visitor: Visitor
) -> None:
    ended = [one_client.insert(flow("a", name="billing")).id for _ in range(22)]
    for workflow_id in ended:
        one_client.complete_step(workflow_id, "a")
    running = one_client.insert(flow("a", name="billing")).id
    session = one_client.cancel_many({"name": "billing"}, actor="bo", reason="the bank is gone")
    page = visitor.page("/bulk")
    before(
        page, "Needs Review", "done", "request cancel", "name billing", "23",
        "22 already terminal", "1 changed", "bo: the bank is gone",
    )  # fmt: skip
    page = visitor.page(f"/bulk/{session.id}")
    before(
        page, "Needs Review", "request cancel", "22 workflows of 23 were left as they were",
        "by bo: the bank is gone", "22\u00d7 already terminal", ended[0], "and 2 more",
    )  # fmt: skip
    assert f"/workflows/{ended[0]}" in page.links
    assert f"rwf --json bulk {session.id}" in commands(page)
    assert running not in page.text


# --- a workflow


def test_a_workflow_leads_with_status_then_state_then_why_then_what_to_do(
    one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    page = visitor.page(f"/workflows/{workflow_id}")
    before(
        page, "! Needs Review", "available", f"flow {workflow_id}", "1 of 4 steps", "1 failed",
        "What holds it, and what can be done",
        "b failed", "holds 1 step", "Attempt 1: no such card",
        "Graph", "Steps, the gravest first", "! Needs Review b failed",
    )  # fmt: skip
    assert f"rwf recover {workflow_id} b retry --dry-run" in commands(page)
    assert not [link for link in page.links if "/act/" in link]


def test_root_causes_come_by_how_many_steps_they_hold(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("few x:few many y:many z:y"))
    page = visitor.page(f"/workflows/{view.id}")
    before(page, "many available", "holds 2 steps", "few available", "holds 1 step")


def test_a_root_cause_that_is_a_child_workflow_says_what_holds_that(
    one_client: Client, visitor: Visitor
) -> None:
    parent, kid = started(one_client)
    page = visitor.page(f"/workflows/{parent.id}/step?name=call")
    before(page, "call", f"waits for the end of workflow {kid.id}")
    assert "Deliver the signal" not in page.text
    one_client.complete_step(kid.id, "a", "failed", summary="no paper")
    page = visitor.page(f"/workflows/{parent.id}")
    before(page, "call", "Child workflow child", "failed", "a", "no paper")
    assert f"/workflows/{kid.id}" in page.links


def test_a_workflow_that_has_ended_well(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a")
    page = visitor.page(f"/workflows/{view.id}")
    before(page, "✓ Resolved", "completed", "ended completed", "Nothing is left to do")


def test_an_acknowledged_end_tells_who_and_why(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a"))
    one_client.complete_step(view.id, "a", "failed")
    one_client.acknowledge(view.id, actor="bob", reason="refunded by hand")
    page = visitor.page(f"/workflows/{view.id}")
    before(page, "✓ Resolved", "failed", "Acknowledged by bob", "refunded by hand")


def test_the_graph_has_a_link_for_each_step_and_tells_the_policies(
    one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    page = visitor.page(f"/workflows/{workflow_id}")
    nodes = {
        str(attrs["aria-label"]): str(attrs["href"])
        for tag, attrs in page.tags
        if tag == "a" and "node" in (attrs.get("class") or "").split()
    }
    assert nodes == {
        f"{name}: {told}": f"/workflows/{workflow_id}/step?name={name}"
        for name, told in {
            "a": "Resolved, completed", "b": "Needs Review, failed, root cause",
            "c": "Resolved, cancelled", "d": "Runnable, available",
        }.items()
    }  # fmt: skip
    lines = [attrs.get("class") for tag, attrs in page.tags if tag == "path"]
    assert (lines.count("p-cancel"), lines.count("p-continue")) == (2 + 1, 1 + 1)  # and the key's


def test_a_wide_fan_is_folded_and_unfolds(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(fan_out(30))
    page = visitor.page(f"/workflows/{view.id}")
    assert "c0 \u00d730" in page.text
    [unfold] = [link for link in page.links if "unfold" in link]
    unfolded = visitor.page(unfold)
    assert "c29 pending" in unfolded.text
    assert "c0 \u00d730" not in unfolded.text


def test_a_large_graph_shows_what_is_near_the_root_causes(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(chain(600))
    page = visitor.page(f"/workflows/{view.id}")
    assert "540 steps not drawn" in page.text
    assert sum("node" in (attrs.get("class") or "") for tag, attrs in page.tags if tag == "a") == 60


def test_a_very_large_workflow_is_explained_when_asked(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(fan_out(5_100))
    page = visitor.page(f"/workflows/{view.id}")
    before(page, "▶ Runnable", "available", "This workflow has 5,101 steps")
    [asked] = [link for link in page.links if "why=1" in link]
    explained = visitor.page(asked)
    before(explained, "root available", "holds 5,100 steps", "too large to be drawn")
    assert "c0" in visitor.page(f"/workflows/{view.id}/step?name=c0").text


def test_why_a_large_workflow_is_where_it_is_comes_after_the_rest(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(fan_out(1_500))
    page = visitor.page(f"/workflows/{view.id}")
    assert "This workflow has 1,501 steps" in page.text
    assert "c0 \u00d71500" in visitor.page(f"/workflows/{view.id}?why=1").text


def test_the_pages_of_steps(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(fan_out(250))
    page = visitor.page(f"/workflows/{view.id}/steps")
    before(page, "Steps 1 to 100 of 251", "root", "c98")
    [following] = [link for link in page.links if "offset" in link]
    assert following.endswith("?offset=100")
    last = visitor.page(f"/workflows/{view.id}/steps?offset=200")
    before(last, "Steps 201 to 251 of 251", "c249")
    assert [link[-4:] for link in last.links if "offset" in link] == ["=100"]
    for odd in ("-1", "x", "9" * 30, "251"):
        visitor.page(f"/workflows/{view.id}/steps?offset={odd}")


def test_evidence_comes_newest_first_with_who_and_why(one_client: Client, visitor: Visitor) -> None:
    workflow_id = failed(one_client)
    one_client.recover_step(workflow_id, "b", "retry", actor="bob", reason="the bank is back")
    page = visitor.page(f"/workflows/{workflow_id}/evidence")
    before(page, "recover step", "accepted", "bob", "the bank is back", "complete step b", "a")


def test_callbacks_and_where_they_stand(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(flow("a"))
    assert "None yet" in visitor.page(f"/workflows/{view.id}/callbacks").text
    one_client.complete_step(view.id, "a")
    page = visitor.page(f"/workflows/{view.id}/callbacks")
    before(page, "pending", "workflow.terminal")


@pytest.mark.parametrize("rest", ["", "/steps", "/evidence", "/callbacks", "/step?name=a"])
@pytest.mark.parametrize("workflow_id", [NO_ID, "odd", "99-aaaaaaaaaaaaaaaa", "%00", "<b>"])
def test_workflows_that_do_not_exist(visitor: Visitor, rest: str, workflow_id: str) -> None:
    assert "Not found" in visitor.page(f"/workflows/{quote(workflow_id)}{rest}", 404).text


# --- a step


def test_a_step_leads_with_status_then_why_then_what_it_reported(
    one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    page = visitor.page(f"/workflows/{workflow_id}/step?name=b")
    before(
        page, "! Needs Review", "failed", f"b of flow {workflow_id}", "Attempt 1 failed",
        "no such card", "Attempt 1 of", "Around it", "It comes after 1 step", "a completed",
        "Attempts", "What it was given", "No input", "Evidence",
    )  # fmt: skip
    assert f"rwf recover {workflow_id} b retry --dry-run" in commands(page)


def test_a_step_that_waits_names_what_really_holds_it(one_client: Client, visitor: Visitor) -> None:
    view = one_client.insert(chain(4))
    page = visitor.page(f"/workflows/{view.id}/step?name=s3")
    before(page, "… Waiting", "pending", "Why", "waiting on dependencies", "s0 available")


def test_a_step_shows_its_payloads_as_text(one_client: Client, visitor: Visitor) -> None:
    workflow = Workflow("flow", context={"c": HOSTILE})
    workflow.add("a", worker="</script><b>\u202e", input={"i": HOSTILE}, context=[HOSTILE])
    view = one_client.insert(workflow)
    one_client.complete_step(
        view.id, "a", "failed", payload={HOSTILE: "p" * 200_000}, summary=HOSTILE, actor=HOSTILE
    )
    for path in ("", "/step?name=a", "/evidence", "/steps"):
        page = visitor.page(f"/workflows/{view.id}{path}")
        assert SHOWN in page.text or path == "/steps"
        assert {tag for tag, _ in page.tags}.isdisjoint({"img", "amp"})
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", page.html)
    assert "(200" in visitor.page(f"/workflows/{view.id}/step?name=a").text
    assert len(visitor.get(f"/workflows/{view.id}/step?name=a").content) < 100_000


@pytest.mark.parametrize("name", [".", "..", "-", "a" * 128, "script"])
def test_every_name_of_a_step_has_a_page(one_client: Client, visitor: Visitor, name: str) -> None:
    workflow = Workflow(name)
    workflow.add(name, worker="w")
    view = one_client.insert(workflow)
    [link] = {link for link in visitor.page(f"/workflows/{view.id}").links if "/step?" in link}
    assert name in visitor.page(link).text
    assert found(visitor, f"/workflows?name={name}") == [view.id]


@pytest.mark.parametrize("query", ["name=none", "", "name=%ff", "name=" + "x" * 200])
def test_steps_that_do_not_exist(one_client: Client, visitor: Visitor, query: str) -> None:
    view = one_client.insert(flow("a"))
    assert visitor.get(f"/workflows/{view.id}/step?{query}").status_code in (400, 404)


# --- the fleet


def test_queues_that_nobody_serves_come_first(one_client: Client, visitor: Visitor) -> None:
    one_client.insert(flow("a", queue="asked"))
    one_client.insert(flow("a b", queue="asked"))
    one_client.claim(["asked"], worker_id="w")
    one_client.insert(flow("a", queue="left"))
    before(visitor.page("/queues"), "■ Blocked left 1", "▶ Runnable asked 2")


def test_signals_that_nobody_took(one_client: Client, visitor: Visitor) -> None:
    kept = one_client.deliver_signal("paid", HOSTILE, payload={"by": HOSTILE}, actor="bank")
    page = visitor.page("/signals")
    payload = SHOWN.replace("\\x1b", "\\u001b").replace("\\x00", "\\u0000").replace('"', '\\"')
    before(page, "unmatched", "paid", SHOWN, "bank", payload)
    assert f"rwf withdraw {kept.id}" in commands(page)
    assert "None: every signal was taken." in visitor.page("/signals?status=late").text
    assert "paid" in visitor.page("/signals?signal=paid").text
    assert "Refused" in visitor.page("/signals?status=odd", 400).text


def test_workers_and_the_steps_in_hand(
    one_client: Client, one_server: AnyServer, visitor: Visitor
) -> None:
    view = one_client.insert(flow("a b c"))
    one_client.claim(["default"], worker_id="worker-7", limit=2)
    with at_work(Worker(client_of("sync", one_server), queues=["own"], worker_id="worker-8")):
        until(one_client.workers, what="the worker to be known")
        page = visitor.page("/workers")
    before(page, "ok worker-8 0 of 64", "own", "none", "Daemons", "sweep")
    before(page, "Steps in hand", "a", view.id, "worker-7")


def test_the_overview_counts_and_a_workflow_has_its_timeline(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(flow("a b:a x", queue="mail"))
    one_client.complete(one_client.claim(["mail"], worker_id="w")[0])
    before(visitor.page("/"), "In numbers", "Workflows:", "1 available", "Steps:", "1 completed")
    page = visitor.page(f"/workflows/{view.id}")
    before(page, "Timeline", "a attempt 1 waited", "b attempt 1", "★ x", "From 20")
    assert "attempt 1 by w: completed" in page.html


def test_health_is_what_the_doctor_finds_the_gravest_first(
    one_client: Client, visitor: Visitor
) -> None:
    one_client.insert(flow("a"))
    before(visitor.page("/health"), "2 warnings", "warning", "persistence", "sweep", "ok")


def test_an_expired_wait_and_a_dead_callback_need_review(
    one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(flow("a"))
    one_client.await_step(
        view.id, "a", signal="go", correlation_key="k", deadline=timedelta(seconds=0)
    )
    before(visitor.page("/"), "1 workflow needs review", "1\u00d7 flow · step a expired", view.id)


def test_without_its_server_a_page_says_so(visitor: Visitor, impatient: None) -> None:
    with console("redis://127.0.0.1:1/0") as nowhere:
        page = nowhere.page("/", 503)
    before(page, "The server cannot be reached")


def test_unknown_pages_and_methods(visitor: Visitor) -> None:
    assert "Not found" in visitor.page("/nothing", 404).text
    assert visitor.get("/static/..%2fapplication.py").status_code == 404
    for path in ("/", "/workflows", "/queues"):
        assert visitor.post(path, {}).status_code == 405
    assert visitor.get("/healthz").text == "ok\n"
