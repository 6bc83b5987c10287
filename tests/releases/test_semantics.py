"""A release that knows only semantics version 2, on a server with workflows of version 3: it reads
them, refuses commands on them, leaves their timers alone, and goes on with its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rwf import Client, Workflow, outcome, result
from tests.releases.freeze import FOLDER
from tests.support import invariants
from tests.support.flows import flow, own_key, raw
from tests.support.servers import AnyServer
from tests.support.waiting import until

LAST_OF_VERSION_2 = FOLDER / "0.1.0"

OLD = """
import json, sys
from rwf import Client, CommandRejected, Workflow

client, ids, done = Client.from_url(sys.argv[1]), sys.argv[2].split(","), {}
own = client.insert(Workflow("own").add("a", worker="w").add("b", worker="w", deps=["a"]))
for one in ids:
    view = client.get(one)
    steps = {step.name: [step.state, step.terminal_cause] for step in client.steps(one)}
    done[one] = {"state": view.state, "version": view.semantics_version, "steps": steps}
    done[one]["results"] = len(client.results(one))
    assert client.evidence(one) is not None
    assert one in [listed.id for listed in client.list(limit=100).workflows]
    done[one]["refused"] = []
    for command in (
        lambda: client.complete_step(one, next(iter(steps))),
        lambda: client.request_cancel(one),
        lambda: client.recover_step(one, next(iter(steps)), "retry"),
        lambda: client.await_step(one, next(iter(steps)), signal="s", correlation_key="k"),
        lambda: client.reconcile(one),
    ):
        try:
            command()
        except CommandRejected as error:
            done[one]["refused"].append(error.reason_code)
claims = client.claim(["default"], worker_id="old", limit=50)
done["claimed"] = [claimed.workflow_id for claimed in claims]
done["own"] = own.id
client.complete_step(own.id, "a", force=True)
client.rebuild()
print(json.dumps(done))
"""


def old_release(server: AnyServer, folder: Path, *ids: str) -> dict[str, Any]:
    """The findings and the commands of the old release."""
    with zipfile.ZipFile(LAST_OF_VERSION_2 / "package.zip") as package:
        package.extractall(folder)
    run = subprocess.run(
        [sys.executable, "-c", OLD, server.url, ",".join(ids)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def branching() -> Workflow:
    """A workflow with everything that version 3 adds."""
    workflow = Workflow("branching", deadline=timedelta(hours=1))
    workflow.add("check", worker="w").add("pay", worker="w")
    workflow.add("ship", worker="w", when=result("check", "ok") == True)  # noqa: E712
    workflow.add("undo", worker="w", input=outcome("pay"))
    workflow.connect("pay", "undo", policy="on_failure")
    return workflow.add("close", worker="w", deps=["ship", "undo"], always=True)


def test_an_older_release_reads_version_3_refuses_commands_and_goes_on(
    one_server: AnyServer, tmp_path: Path
) -> None:
    with Client.from_url(one_server.url) as client:
        open_ = client.insert(branching())
        client.complete_step(open_.id, "check", "skipped", branch=True)
        client.complete_step(open_.id, "pay", payload=1)
        later = client.insert(flow("a b:a"), start_at=timedelta(hours=1))
        woken = client.insert(flow("a"))
        client.await_step(
            woken.id,
            "a",
            signal="s",
            correlation_key="k",
            deadline=timedelta(milliseconds=1),
            on_timeout="continue",
        )
        before = {one: raw(client).hgetall(own_key(one)) for one in (open_.id, later.id, woken.id)}
        timers = {member for member, _ in raw(client).zscan_iter("rwf:{0}:timers")}
        found = old_release(one_server, tmp_path, open_.id, later.id, woken.id)
        assert found[open_.id]["steps"] == {
            "check": ["completed", "completed"],
            "pay": ["completed", "completed"],
            "ship": ["completed", "completed"],
            "undo": ["completed", "completed"],
            "close": ["available", None],
        }
        assert found[open_.id]["results"] == 2
        for one in (open_, later, woken):
            assert found[one.id]["version"] == 3
            assert found[one.id]["refused"] == ["unsupported_semantics"] * 5
            assert raw(client).hgetall(own_key(one.id)) == before[one.id]
        assert found["claimed"] == [found["own"]]
        assert timers <= {member for member, _ in raw(client).zscan_iter("rwf:{0}:timers")}
        # Its reservations of steps that it may not run are given back when they run out.
        until(
            lambda: client.claim(["default"], worker_id="new", limit=5) != [],
            timeout=30,
            what="the steps to be handed out",
        )
        client.rebuild()
        client.complete_step(found["own"], "b", force=True)
        assert client.get(found["own"]).state == "completed"
        assert client.get(found["own"]).semantics_version == 2
        assert invariants.check(client) == []


@pytest.mark.parametrize("text", ["a b:a c:+b", "a b c:a,+b d:c"])
def test_what_uses_nothing_of_version_3_is_stored_as_before(one_client: Client, text: str) -> None:
    view = one_client.insert(flow(text))
    one_client.complete_step(view.id, "a")
    (claimed, *_) = one_client.claim(["default"], worker_id="w")
    one_client.complete(claimed, "failed")
    stored = raw(one_client).hgetall(own_key(view.id))
    assert stored[b":s"].startswith(b"2,")
    assert b":b" not in stored
    for name in text.split():
        head = stored[name.partition(":")[0].encode()].partition(b"|")[0]
        assert head.count(b",") == 12
