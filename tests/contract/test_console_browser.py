"""The console in a real browser (contract §18): every page, by keyboard, live, without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from rwf import Client, Workflow
from tests.support.browsers import Watched, chromium
from tests.support.consoles import Visitor, console
from tests.support.flows import chain, fan_out, flow
from tests.support.servers import AnyServer

HOSTILE = "<img src=x onerror=alert(1)></pre></script><script>alert(2)</script>\u202e\x1b[2J"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visitor(one_server: AnyServer) -> Iterator[Visitor]:
    with console(one_server.url, allow_actions=True) as found:
        yield found


def failed(client: Client) -> str:
    view = client.insert(flow("a b:a c:b d:+c", name="sync_customer"))
    client.complete_step(view.id, "a", payload={"n": 1})
    client.complete_step(view.id, "b", "failed", summary="503 from the bank")
    return view.id


def night(client: Client) -> list[str]:
    """The paths of all pages, of a namespace in which each has something to show."""
    bad = failed(client)
    wide = client.insert(fan_out(40))
    long = client.insert(chain(120))
    client.claim(["default"], worker_id="worker-7", limit=2)
    waits = client.insert(flow("a"))
    client.await_step(waits.id, "a", signal="go", correlation_key="k")
    kept = client.deliver_signal("paid", "k", payload={"n": 1})
    client.request_cancel(wide.id, reason="enough")
    over = client.insert(flow("a", name="over"))
    client.complete_step(over.id, "a")
    session = client.cancel_many({"name": "over"}, actor="bo", reason="enough")
    return [
        "/", "/workflows", "/workflows?status=Needs+Review", "/queues", "/signals", "/workers",
        "/health", "/find?q=nothing", f"/workflows/{bad}", f"/workflows/{wide.id}",
        f"/workflows/{wide.id}?unfold=c1", f"/workflows/{long.id}", f"/workflows/{bad}/steps",
        f"/workflows/{bad}/evidence", f"/workflows/{bad}/callbacks",
        f"/workflows/{bad}/step?name=b", f"/workflows/{long.id}/step?name=s60",
        f"/act/recover_step?workflow={bad}&step=b&do=retry",
        f"/act/recover_step?workflow={wide.id}&step=root&do=retry",
        f"/act/request_cancel?workflow={long.id}", f"/act/set_retention?workflow={bad}",
        f"/act/complete_step?workflow={long.id}&step=s0",
        f"/act/deliver_signal?workflow={waits.id}&step=a",
        f"/act/withdraw_signal?signal={kept.id}&name=paid&key=k",
        "/bulk", f"/bulk/{session.id}", "/act/recover_many?do=retry&status=Needs+Review",
        "/act/cancel_many?name=chain", f"/act/stop_bulk?session={session.id}",
    ]  # fmt: skip


@pytest.mark.parametrize(("scheme", "width"), [("light", 1600), ("dark", 360)])
def test_every_page_fits_is_accessible_and_asks_nobody_else(
    browser: Browser, one_client: Client, visitor: Visitor, scheme: Any, width: int
) -> None:
    size: Any = {"width": width, "height": 900}
    paths = night(one_client)
    # Each page is checked closely in one of the two, those with the most content in both.
    closely = {*paths[width == 360 :: 2], *paths[8:10], paths[0], paths[15], paths[17]}
    with Watched(browser, visitor.origin, viewport=size, color_scheme=scheme) as watched:
        for path in paths:
            watched.page.goto(path)
            wide = watched.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, path
            if path in closely:
                assert watched.violations() == [], path
        expected = ["error: Failed to load resource: the server responded with a status of 404"]
        assert [fault[: len(expected[0])] for fault in watched.faults] == expected  # of /find


def test_somebody_with_a_keyboard_alone_finds_what_is_wrong_and_mends_it(
    browser: Browser, one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    with Watched(browser, visitor.origin) as watched:
        page = watched.page
        page.goto("/")
        press_to(page, workflow_id)
        press_to(page, "Retry…")
        press_to(page, "Reason", press=None)
        page.keyboard.type("the bank is back")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("The recovery was carried out.")
        press_to(page, "b: Runnable, available, root cause")
        expect(page.get_by_role("heading", level=1)).to_contain_text("b")
        assert watched.faults == []
    entry = one_client.evidence(workflow_id)[-1]
    assert (entry.action, entry.metadata["reason"]) == ("recover_step", "the bank is back")


def test_what_is_hard_to_use_is_found(browser: Browser, visitor: Visitor) -> None:
    with Watched(browser, visitor.origin) as watched:
        watched.page.goto("/")
        watched.page.evaluate("document.querySelector('.find input').ariaLabel = ''")
        watched.page.evaluate("document.querySelector('.find input').placeholder = ''")
        watched.page.evaluate("console.log('x'); fetch('http://127.0.0.2/').catch(() => {})")
        [violation] = watched.violations()
        assert violation.startswith("label: ")
        assert len(watched.faults) >= 2


def press_to(page: Any, name: str, press: str | None = "Enter") -> None:
    """Tabs to the element of this name, which must visibly have the focus, and presses a key."""
    for _ in range(60):
        page.keyboard.press("Tab")
        label, seen = page.evaluate(
            """() => {
              const one = document.activeElement, box = one.querySelector(".box") || one;
              const style = getComputedStyle(box);
              const seen = style.outlineStyle !== "none" || parseFloat(style.strokeWidth) > 3;
              const label = one.labels && one.labels.length ? one.labels[0].textContent : "";
              return [one.getAttribute("aria-label") || label || one.textContent, seen];
            }"""
        )
        if str(label).strip().startswith(name):
            assert seen, f"{name} has the focus, which nobody sees"
            if press is not None:
                with page.expect_navigation():
                    page.keyboard.press(press)
            return
    raise AssertionError(f"no way to {name} by keyboard")


def test_a_page_follows_what_happens_and_leaves_its_reader_in_peace(
    browser: Browser, one_client: Client, visitor: Visitor
) -> None:
    workflow = Workflow("sync_customer", context={"n": 1})
    workflow.add("a", worker="w")
    workflow.add("b", worker="w", deps=["a"])
    view = one_client.insert(workflow)
    with Watched(browser, visitor.origin) as watched:
        page = watched.page
        page.goto(f"/workflows/{view.id}")
        page.get_by_text("Context").click()
        page.get_by_role("link", name="b: Waiting, pending").focus()
        [claim] = one_client.claim(["default"], worker_id="worker-7")
        one_client.complete(claim)
        expect(page.get_by_role("link", name="b: Runnable, available")).to_be_focused()
        one_client.complete_step(view.id, "b", "failed", summary="503 from the bank")
        expect(page.locator("#head")).to_contain_text("Needs Review")
        expect(page.locator("#why")).to_contain_text("503 from the bank")
        expect(page.locator("details pre")).to_be_visible()
        assert page.title().startswith("Needs Review")
        page.get_by_role("button", name="live").click()
        expect(page.get_by_role("button", name="paused")).to_be_visible()
        assert watched.faults == []


def test_without_scripts_everything_can_be_done(
    browser: Browser, one_client: Client, visitor: Visitor
) -> None:
    workflow_id = failed(one_client)
    with Watched(browser, visitor.origin, java_script_enabled=False) as watched:
        page = watched.page
        page.goto("/")
        page.get_by_role("link", name=workflow_id).click()
        page.get_by_role("link", name="Skip…").click()
        page.get_by_label("What is decided anew").select_option("step")
        page.get_by_role("button", name="Show what that would do").click()
        expect(page.get_by_role("heading", level=3)).to_contain_text("1 step would change")
        page.get_by_label("Reason").fill("billed by hand")
        page.get_by_role("button", name="Skip it").click()
        expect(page.get_by_role("status")).to_contain_text("The recovery was carried out.")
        assert watched.faults == []
    assert one_client.step(workflow_id, "b").terminal_cause == "operator_skipped"


def test_no_payload_becomes_a_part_of_the_page(
    browser: Browser, one_client: Client, visitor: Visitor
) -> None:
    workflow = Workflow("script", context=HOSTILE)
    workflow.add("script", worker="<b>w</b>", input={HOSTILE: HOSTILE})
    view = one_client.insert(workflow)
    large = [HOSTILE] * (256 * 1024 // 120)
    one_client.complete_step(
        view.id, "script", "failed", payload=large, summary=HOSTILE, actor=HOSTILE
    )
    one_client.deliver_signal("paid", HOSTILE, payload=large, actor=HOSTILE)
    given: Any = {"name": "script", "tags": {HOSTILE: HOSTILE}}
    session = one_client.cancel_many(given, actor=HOSTILE, reason=HOSTILE)
    one_client.stop_bulk(str(session.id), actor=HOSTILE, reason=HOSTILE)
    with Watched(browser, visitor.origin) as watched:
        for path in (
            "/", f"/workflows/{view.id}", f"/workflows/{view.id}/step?name=script",
            f"/workflows/{view.id}/evidence", "/signals", "/find?q=%3Cimg src=x%3E",
            "/bulk", f"/bulk/{session.id}", "/workflows?since=%3Cimg src=x%3E",
        ):  # fmt: skip
            watched.page.goto(path)
            watched.page.wait_for_load_state()
            assert watched.page.locator("main img, main script, main b:text-is('w')").count() == 0
        assert [fault for fault in watched.faults if "status of 40" not in fault] == []


def test_what_takes_long_comes_after_the_rest(
    browser: Browser, one_client: Client, visitor: Visitor
) -> None:
    view = one_client.insert(fan_out(5_100))
    with Watched(browser, visitor.origin) as watched:
        watched.page.goto(f"/workflows/{view.id}")
        expect(watched.page.locator("main")).to_contain_text("holds 5,100 steps")
        assert watched.faults == []
