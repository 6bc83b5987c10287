"""The kill campaign, as long as RWF_TEST_SCALE says; and tests that its oracle finds breaches."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwf import Client
from tests.conftest import SCALE
from tests.fault.campaign.chaos import strikes
from tests.fault.campaign.journal import Journal
from tests.fault.campaign.oracle import judge
from tests.fault.campaign.plan import REDUCED, Act, Plan, Touch
from tests.fault.campaign.run import campaign
from tests.fault.campaign.shapes import plan

WORKFLOWS, KILLS = {"long": (5000, 300), "slice": (600, 40)}.get(SCALE, (60, 6))
SEED = 1


@pytest.mark.scaled
def test_a_campaign(tmp_path: Path) -> None:
    report = campaign("valkey91", seed=SEED, workflows=WORKFLOWS, kills=KILLS, folder=tmp_path)
    print(*report.lines(), sep="\n")
    assert report.findings.breaches == []
    assert report.findings.workflows >= WORKFLOWS
    assert report.kills >= KILLS * 0.8  # some strikes find that their process has ended already


def test_a_seed_is_a_campaign() -> None:
    assert strikes(7, 40) == strikes(7, 40) != strikes(8, 40)
    first = [plan(7, number) for number in range(50)]
    plan.cache_clear()
    assert [plan(7, number) for number in range(50)] == first
    assert {one.touch for one in (plan(7, number) for number in range(200))} == set(Touch)


# --- the oracle finds breaches


def quiet(worth: Callable[[Plan], bool]) -> Plan:
    """A workflow on which nobody acts, whose steps all complete."""
    plans = (plan(SEED, number) for number in range(1000))
    return next(
        one
        for one in plans
        if one.touch is Touch.NONE
        and worth(one)
        and all(end.worked for end in one.ends().values())
        and all(step.act is Act.COMPLETE for step in one.every.values())
    )


def is_plain(one: Plan) -> bool:
    steps = one.steps.values()
    return len(steps) > 2 and not any(step.runs or step.appends is not None for step in steps)


def appends(one: Plan) -> bool:
    return any(step.appends for step in one.steps.values())


def runs(one: Plan) -> bool:
    return any(step.runs for step in one.steps.values())


class Story:
    """One workflow's life, and the journals of the processes that took part."""

    def __init__(
        self, client: Client, folder: Path, worth: Callable[[Plan], bool] = is_plain
    ) -> None:
        self.client = client
        self.folder = folder
        self.plan = quiet(worth)
        self.id = client.insert(self.plan.workflow(), key=self.plan.key, retention=None).id
        self.note("inserted-0", number=self.plan.number, id=self.id)

    def note(self, name: str, /, **entry: Any) -> None:
        Journal(self.folder / f"{name}.jsonl").note(**entry)

    def work(self, *, last: str = "completed") -> None:
        """Runs all steps; the last one ends in this way."""
        for name in self.plan.steps:
            [claim] = self.client.claim(["default"], worker_id="w")
            token = f"of {claim.step}"
            self.note("ran-0", id=self.id, step=claim.step, attempt=1, token=token)
            saw = {parent: got["token"] for parent, got in claim.input.items() if parent != REDUCED}
            status = last if name == list(self.plan.steps)[-1] else "completed"
            self.client.complete(claim, status, payload={"token": token, "saw": saw})

    def dispatch(self) -> None:
        self.client.dispatch_callbacks(
            lambda envelope: self.note("received-0", **envelope.model_dump(mode="json"))
        )

    def breaches(self) -> list[str]:
        return judge(self.client, self.folder, SEED).breaches


@pytest.fixture
def story(one_client: Client, tmp_path: Path) -> Story:
    return Story(one_client, tmp_path)


def test_nothing_is_wrong(story: Story) -> None:
    story.work()
    story.dispatch()
    assert story.breaches() == []


def test_it_sees_what_is_stuck(story: Story) -> None:
    [breach] = story.breaches()
    assert f"{story.id}: stuck, available" in breach


def test_it_sees_a_lost_workflow(story: Story) -> None:
    story.work()
    story.dispatch()
    story.note("inserted-0", number=story.plan.number, id="0-aaaaaaaaaaaaaaaa")
    assert story.breaches() == ["0-aaaaaaaaaaaaaaaa: acknowledged, and lost"]


def test_it_sees_another_end(story: Story) -> None:
    story.work(last="failed")
    story.dispatch()
    [breach] = story.breaches()
    assert "has ended as End(state='failed', cause='step_failed')" in breach


def test_it_sees_a_callback_that_nobody_received(story: Story) -> None:
    story.work()
    [breach] = story.breaches()
    assert breach.endswith("is pending")
    story.client.dispatch_callbacks(lambda envelope: None)
    [breach] = story.breaches()
    assert breach.endswith("is called delivered, and was not")


def test_it_sees_a_lost_report(story: Story) -> None:
    story.work()
    story.dispatch()
    step = next(iter(story.plan.steps))
    story.note("accepted-0", id=story.id, step=step, token="lost", outcome="accepted")
    [breach] = story.breaches()
    assert "a report was accepted, and is lost" in breach


def test_it_sees_a_result_of_nobody(story: Story) -> None:
    story.work()
    story.dispatch()
    (story.folder / "ran-0.jsonl").unlink()
    assert len(story.breaches()) == len(story.plan.steps)


def test_it_sees_steps_that_were_never_appended(one_client: Client, tmp_path: Path) -> None:
    story = Story(one_client, tmp_path, appends)
    story.work()
    story.dispatch()
    missing = story.plan.every.keys() - story.plan.steps.keys()
    breaches = [f"{story.id}: {name} was never appended" for name in missing]
    assert sorted(story.breaches()) == sorted(breaches)


def test_it_sees_a_result_of_no_child(one_client: Client, tmp_path: Path) -> None:
    story = Story(one_client, tmp_path, runs)
    story.work()
    story.dispatch()
    called = [step.name for step in story.plan.steps.values() if step.runs]
    found = [re.search(r"(\w+) has the result of no child", breach) for breach in story.breaches()]
    assert sorted(one[1] for one in found if one) == sorted(called)
