"""Stored data of each release is read, carried on, repaired and removed by the present release,
also while the old one works on it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rwf import AsyncClient, Client, Worker, Workflow
from rwf.model.states import TERMINAL_WORKFLOWS
from tests.releases.data import load, order
from tests.releases.freeze import FOLDER
from tests.support import invariants
from tests.support.flows import until_past
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import at_work

RELEASES: Final = sorted(path for path in FOLDER.iterdir() if (path / "data.jsonl").exists())
HANDLERS: Final = ("work", "pack", "ship")
QUEUES: Final = ("default", "slow")

OLD: Final = """
import sys
from rwf import Client, Worker, Workflow

url, queues = sys.argv[1], sys.argv[2].split(",")
worker = Worker(Client.from_url(url), queues=queues, worker_id="old")
for name in sys.argv[3].split(","):
    worker.step(name)(lambda ctx: {"id": ctx.step})
with Client.from_url(url) as client:
    client.insert(Workflow("by-the-old").add("a", worker="work"), key="by the old")
print("up", flush=True)
worker.run()
"""


READ: Final = """
import sys
from rwf import Client

with Client.from_url(sys.argv[1]) as client:
    for result in client.results(sys.argv[2]):
        print(result.attempt, result.status, result.summary)
    client.recover_step(sys.argv[2], "a", "retry")
    client.complete_step(sys.argv[2], "a")
    client.rebuild()
"""


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest) -> Path:
    """The folder of a release."""
    folder: Path = request.param
    return folder


@pytest.fixture
def client(server: AnyServer, release: Path) -> Iterator[Client]:
    """A client of the present release on the data of that one."""
    with Client.from_url(server.url, partitions=4) as found:
        load(found, release / "data.jsonl")
        yield found
        # Rules for derived keys have changed: callbacks delayed the timers of retentions.
        found.rebuild()
        assert invariants.check(found) == []


@pytest.fixture
def old_package(release: Path, tmp_path: Path) -> Path:
    """A folder with the old release's library."""
    with zipfile.ZipFile(release / "package.zip") as package:
        package.extractall(tmp_path)
    return tmp_path


def start(package: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has the library in this folder."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=package,
    )


@pytest.fixture
def old(server: AnyServer, old_package: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker of the old release, with its own reconciler, in a process of its own."""
    process = start(old_package, OLD, server.url, ",".join(QUEUES), ",".join(HANDLERS))
    yield process
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0


def by_the_old() -> Workflow:
    """Steps that the old release inserts, too."""
    return Workflow("by-the-old").add("a", worker="work")


def ids(client: Client) -> list[str]:
    found, cursor = [], None
    while True:
        page = client.list(limit=100, cursor=cursor)
        found += [view.id for view in page.workflows]
        if (cursor := page.cursor) is None:
            return found


def release_all(client: Client) -> None:
    """Ends all steps that would wait for a person, a signal or a lease of a day."""
    for view in ids(client):
        if client.get(view).state in TERMINAL_WORKFLOWS:
            continue
        for step in client.steps(view):
            if step.state == "executing":
                client.complete_step(view, step.name, payload={"id": 1}, force=True)
            elif step.state == "awaiting_signal":
                client.recover_step(view, step.name, "skip")


def new_worker(server: AnyServer) -> Worker:
    worker = Worker(AsyncClient.from_url(server.url, partitions=4), queues=QUEUES, worker_id="new")
    for name in HANDLERS:
        worker.step(name)(lambda ctx: {"id": ctx.step})
    return worker


def until_all_ended(client: Client) -> None:
    until(
        lambda: all(client.get(one).state in TERMINAL_WORKFLOWS for one in ids(client)),
        timeout=60,
        what="the end of all workflows",
    )


def test_everything_that_it_stored_can_be_read(client: Client) -> None:
    found = ids(client)
    assert len(found) >= 20
    for one in found:
        view, steps = client.get(one), client.steps(one)
        assert len(steps) == view.step_count
        assert client.explain(one).diagnosis
        assert len(client.graph(one).steps) == view.step_count
        assert client.evidence(one) is not None
        for step in steps[:5]:
            assert client.explain_step(one, step.name).diagnosis
            client.results(one, step=step.name)
    assert client.insert(order(), key="fresh").duplicate


def test_all_of_it_runs_to_its_end(client: Client, server: AnyServer) -> None:
    release_all(client)
    with at_work(new_worker(server)):
        until_all_ended(client)
    client.rebuild()
    client.prune()


def test_it_is_repaired(client: Client) -> None:
    redis = client._store.client()
    for name in ("ready", "timers", "index", "outbox"):
        for key in redis.scan_iter(f"rwf:*:{name}"):
            redis.delete(key)
    client.rebuild()
    assert client.rebuild().repairs == {}
    for one in ids(client):
        client.reconcile(one)


def test_both_releases_work_on_it_at_once(
    client: Client, server: AnyServer, old: subprocess.Popen[str]
) -> None:
    release_all(client)
    assert old.stdout is not None
    assert old.stdout.readline() == "up\n"
    with at_work(new_worker(server)):
        until_all_ended(client)
    assert client.insert(by_the_old(), key="by the old").state == "completed"


def test_the_old_release_goes_on_with_attempts_that_have_tracebacks(
    client: Client, server: AnyServer, old_package: Path
) -> None:
    view = client.insert(Workflow("w").add("a", worker="nobody"))
    client.complete_step(view.id, "a", "failed", summary="s", traceback="t")
    told, _ = start(old_package, READ, server.url, view.id).communicate(timeout=60)
    assert told == "1 failed s\n"
    assert [result.traceback for result in client.results(view.id)] == ["t", None]


DISPATCHED: Final = """
import sys
from rwf import Client

with Client.from_url(sys.argv[1]) as client:
    print(client.step(sys.argv[2], "a").leased_by, client.explain_step(sys.argv[2], "a").state)
    print([repair.kind for repair in client.reconcile(sys.argv[2]).repairs])
    client.rebuild()
"""


def test_to_the_old_release_a_dispatched_step_is_one_that_runs(
    client: Client, server: AnyServer, old_package: Path
) -> None:
    """And a void ticket a lease that has passed; it counts no attempt."""
    view = client.insert(Workflow("now").add("a", worker="work", queue="mine"))
    (ticket,) = client.dispatch(["mine"], dispatcher="d")

    def asked() -> list[str]:
        asked = subprocess.run(
            [sys.executable, "-c", DISPATCHED, server.url, view.id],
            env={**os.environ, "PYTHONPATH": str(old_package)},
            capture_output=True,
            text=True,
            check=True,
        )
        return asked.stdout.splitlines()

    assert asked() == ["d executing", "[]"]
    client.release([ticket])
    (ticket,) = client.dispatch(["mine"], dispatcher="d", hold=0.01)
    until_past(client, ticket.expires_at)
    assert asked() == ["d executing", "['lease_expired']"]
    step = client.step(view.id, "a")
    assert (step.state, step.attempt) == ("available", 0)
    client.complete_step(view.id, "a")
