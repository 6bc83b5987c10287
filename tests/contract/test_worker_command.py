"""``rwf worker``: its server, its logs and its metrics (contract §10)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from rwf import Client, Workflow
from tests.support.flows import flow
from tests.support.servers import AnyServer
from tests.support.waiting import until
from tests.support.workers import until_ended

NOWHERE = "redis://127.0.0.1:1"

APP = """
import os
from rwf import (AsyncClient, Client, Worker)

bare = Worker(reconcile=False)
own = Worker(AsyncClient.from_url(os.environ["APP_URL"]), reconcile=False)
strict = Worker(
    Client.from_url("redis://127.0.0.1:1", namespace="strict", max_payload=1000, socket_timeout=2),
    reconcile=False,
)

for worker in (bare, own, strict):
    @worker.step("work")
    def work():
        return "done"

    @worker.step("large")
    def large():
        return "x" * 2000

    @worker.step("forge")
    def forge():
        raise RuntimeError("\\x1b[31mred\\n2026-01-01T00:00:00Z  info     all is well")
"""


@contextmanager
def process(folder: Path, *args: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """``rwf worker`` in a folder that has the module ``app``."""
    (folder / "app.py").write_text(APP)
    variables = {"APP_URL": NOWHERE, "RWF_URL": NOWHERE, "RWF_NAMESPACE": "rwf"} | environment
    with subprocess.Popen(
        [sys.executable, "-m", "rwf", "worker", *args],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def ended(running: subprocess.Popen[str]) -> tuple[str, str]:
    """Its output on stdout and stderr, once SIGTERM has ended it."""
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    return out, err


def test_a_worker_without_a_client_takes_the_environments(
    one_server: AnyServer, tmp_path: Path
) -> None:
    with Client.from_url(one_server.url, namespace="other") as client:
        view = client.insert(flow("a"))
        environment = {"RWF_URL": one_server.url, "RWF_NAMESPACE": "other"}
        with process(tmp_path, "app:bare", **environment) as running:
            until_ended(client, view.id)
            ended(running)
        assert client.get(view.id).state == "completed"


def test_a_client_of_its_own_wins_over_the_environment(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    view = one_client.insert(flow("a"))
    with process(tmp_path, "app:own", APP_URL=one_server.url, RWF_NAMESPACE="other") as running:
        until_ended(one_client, view.id)
        ended(running)


def test_an_url_that_is_given_wins_over_both_and_other_options_stay(
    one_server: AnyServer, tmp_path: Path
) -> None:
    with Client.from_url(one_server.url, namespace="strict") as client:
        workflow = Workflow("w").add("a", worker="work").add("b", worker="large")
        view = client.insert(workflow)
        with process(tmp_path, "app:strict", "--url", one_server.url) as running:
            until_ended(client, view.id)
            ended(running)
        states = {step.name: step.state for step in client.steps(view.id)}
        assert states == {"a": "completed", "b": "failed"}
        assert "payload_too_large" in str(client.results(view.id, step="b")[0].summary)


def test_a_namespace_that_is_given_leaves_the_server(one_server: AnyServer, tmp_path: Path) -> None:
    with Client.from_url(one_server.url, namespace="other") as client:
        view = client.insert(flow("a"))
        args = ("app:own", "--namespace", "other")
        with process(tmp_path, *args, APP_URL=one_server.url) as running:
            until_ended(client, view.id)
            ended(running)


def test_queues_and_concurrency(one_client: Client, one_server: AnyServer, tmp_path: Path) -> None:
    view = one_client.insert(Workflow("w").add("a", worker="work", queue="billing"))
    args = ("app:own", "--queues", "billing, orders", "--concurrency", "3", "--json")
    with process(tmp_path, *args, APP_URL=one_server.url) as running:
        until_ended(one_client, view.id)
        out, _ = ended(running)
    serving: dict[str, Any] = json.loads(out.splitlines()[0])
    assert (serving["queues"], serving["concurrency"]) == (["billing", "orders"], 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--queues", "a b"), "--queues"),
        (("--queues", ""), "--queues"),
        (("--concurrency", "0"), "--concurrency"),
        (("--concurrency", "many"), "--concurrency"),
        (("--log-level", "loud"), "--log-level"),
        (("--log-format", "xml"), "--log-format"),
        (("--metrics", "9464"), "HOST:PORT"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    with process(tmp_path, "app:bare", *args) as running:
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize(
    ("place", "environment", "message"),
    [
        ("broken:bare", {}, "cannot import broken: ZeroDivisionError: division by zero"),
        ("unread:bare", {}, "cannot import unread: SyntaxError"),
        ("..:bare", {}, "cannot import .."),
        ("app:bare", {"RWF_URL": "junk"}, "the URL has no scheme"),
        ("app:bare", {"RWF_NAMESPACE": "a b"}, "namespace must match"),
    ],
)
def test_what_keeps_it_from_starting_is_told(
    tmp_path: Path, place: str, environment: dict[str, str], message: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "unread.py").write_text("def (")
    with process(tmp_path, place, **environment) as running:
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err.count("\n")) == (2, 1)
    assert message in err


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_logged_is_escaped(
    one_client: Client, one_server: AnyServer, tmp_path: Path, form: str
) -> None:
    view = one_client.insert(Workflow("w").add("a", worker="forge", max_attempts=1))
    with process(tmp_path, "app:own", "--log-format", form, APP_URL=one_server.url) as running:
        until_ended(one_client, view.id)
        _, err = ended(running)
    assert "\x1b" not in err
    assert f"step a of {view.id} failed in attempt 1" in err
    lines = err.splitlines()
    if form == "json":
        told = [json.loads(line) for line in lines]
        [failure] = [one for one in told if one["level"] == "error"]
        assert "all is well" in failure["exception"]
    else:
        assert not [one for one in lines if one.startswith("2026-01-01T00:00:00Z  info")]
        assert any(line.startswith("    | RuntimeError: \\x1b[31mred") for line in lines)


def test_the_level_of_what_is_logged(
    one_client: Client, one_server: AnyServer, tmp_path: Path
) -> None:
    view = one_client.insert(Workflow("w").add("a", worker="forge", max_attempts=1))
    # As JSON, since --json says so and nothing else does.
    args = ("app:own", "--log-level", "error", "--json")
    with process(tmp_path, *args, APP_URL=one_server.url) as running:
        until_ended(one_client, view.id)
        _, err = ended(running)
    assert [json.loads(line)["level"] for line in err.splitlines()] == ["error"]


@pytest.mark.parametrize("app", ["app:own", "app:strict"])
def test_it_serves_metrics(one_server: AnyServer, tmp_path: Path, app: str) -> None:
    """With either client."""
    namespace = "strict" if app == "app:strict" else "rwf"
    with Client.from_url(one_server.url, namespace=namespace) as client:
        view = client.insert(flow("a b:a"))
        args = (app, "--url", one_server.url, "--metrics", "127.0.0.1:0")
        with process(tmp_path, *args) as running:
            assert running.stderr is not None
            line = until(running.stderr.readline, timeout=60, what="the log")
            while "metrics on" not in line:
                line = running.stderr.readline()
            until_ended(client, view.id)
            with urlopen(line.split()[-1]) as answer:
                text = answer.read().decode()
            with urlopen(line.split()[-1].replace("/metrics", "/healthz")) as answer:
                assert answer.read() == b"ok\n"
            ended(running)
    assert 'rwf_steps{state="completed"} 2.0' in text
    assert "rwf_call_duration_seconds" in text
