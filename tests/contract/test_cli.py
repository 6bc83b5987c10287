"""The command line: every command, its JSON, its exit codes, one line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rwf import Client, Workflow, result
from rwf.cli import program
from rwf.cli.text import escaped
from tests.servers import AnyServer, Server
from tests.waiting import until

NOBODY = "redis://127.0.0.1:1/0"
NO_ID = "0-aaaaaaaaaaaaaaaa"
READING = ("show", "graph", "explain", "evidence")
WRITING = ("insert", "complete")
NAMES = (*READING, *WRITING, "demo", "ls", "migrate", "doctor", "server")

FORM: dict[str, Any] = {
    "name": "sync_customer",
    "context": {"label": "Kunde \u001b[31m rot"},
    "steps": [
        {"name": "fetch", "worker": "fetch"},
        {"name": "bill", "worker": "bill", "deps": ["fetch"], "input": {"c": {"$result": "fetch"}}},
        {"name": "notify", "worker": "notify", "deps": ["bill"]},
        {"name": "cleanup", "worker": "cleanup"},
    ],
    "edges": [{"parent": "bill", "child": "cleanup", "policy": "continue"}],
}


class Cli:
    """Runs ``rwf`` in this process, against one server."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> Result:
        environment = {"RWF_URL": self.url, "RWF_NAMESPACE": None}
        return CliRunner().invoke(program, args, input=stdin, env=environment)

    def ok(self, *args: str, stdin: str | None = None) -> str:
        """The output of a command that must succeed."""
        found = self(*args, stdin=stdin)
        assert found.exit_code == 0, found.output
        assert found.stderr == ""
        return found.stdout

    def json(self, *args: str, stdin: str | None = None) -> Any:
        """The same with ``--json``, parsed; it is one line."""
        text = self.ok(*args, "--json", stdin=stdin)
        assert text.count("\n") == 1
        return json.loads(text)

    def refused(self, code: int, *args: str, stdin: str | bytes | None = None) -> str:
        """The one line on stderr of a command that must end with this exit code."""
        found = self(*args, stdin=stdin)
        assert found.exit_code == code, found.output
        return one_line(found.stderr)

    def file(self, content: str | bytes, name: str = "workflow.json") -> str:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def inserted(self) -> str:
        """The id of a new workflow of FORM."""
        found: str = self.json("insert", "-", stdin=json.dumps(FORM))["id"]
        return found


def one_line(stderr: str) -> str:
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    assert "Traceback" not in stderr
    assert stderr.rstrip("\n").isprintable()
    return stderr


@pytest.fixture
def cli(one_server: AnyServer, tmp_path: Path) -> Cli:
    return Cli(one_server.url, tmp_path)


def run(
    *args: str, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """``python -m rwf`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rwf", *args],
        input=stdin,
        capture_output=True,
        env=os.environ | (env or {}),
        check=False,
        timeout=60,
    )


# --- insert -----------------------------------------------------------------------------------


def test_insert_takes_a_file_and_tells_the_id(cli: Cli) -> None:
    text = cli.ok("insert", cli.file(json.dumps(FORM)))
    status, state, name, workflow_id, *_ = text.split()
    assert (status, state, name) == ("Runnable", "available", "sync_customer")
    with Client.from_url(cli.url) as client:
        assert client.get(workflow_id).context == FORM["context"]


def test_insert_takes_a_list_and_json_lines(cli: Cli) -> None:
    two = cli.json("insert", "-", stdin=json.dumps([FORM, FORM]))
    lines = cli.json("insert", "-", stdin=f"{json.dumps(FORM)}\n\n{json.dumps(FORM)}\n")
    assert len({view["id"] for view in two + lines}) == 4
    assert list(two[0])[:2] == ["operator_status", "id"]
    assert cli.json("insert", "-", stdin="[]") == []


def test_insert_with_a_key_is_done_once(cli: Cli) -> None:
    file = cli.file(json.dumps(FORM))
    first, again = (cli.json("insert", file, "--key", "order-1") for _ in range(2))
    assert first["id"] == again["id"]
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    other = cli.file(json.dumps(FORM | {"context": None}), "other.json")
    line = cli.refused(1, "insert", other, "--key", "order-1")
    assert line.startswith("rwf: key_conflict: ")
    assert "(next: insert_with_new_key, inspect_workflow)" in line
    assert "--key" in cli.refused(2, "insert", "-", "--key", "k", stdin=json.dumps([FORM]))


@pytest.mark.parametrize("retention", ["none", "0", "0.5", "30"])
def test_insert_with_a_retention(cli: Cli, retention: str) -> None:
    assert cli.ok("insert", "-", "--retention", retention, stdin=json.dumps(FORM))


@pytest.mark.parametrize("retention", ["-1", "nan", "inf", "1e300", "soon", ""])
def test_insert_with_no_retention_at_all(cli: Cli, retention: str) -> None:
    cli.refused(2, "insert", "-", "--retention", retention, stdin=json.dumps(FORM))


def test_one_invalid_workflow_of_a_list_stops_all(cli: Cli) -> None:
    cycle = {"name": "w", "steps": [{"name": "a", "worker": "a", "deps": ["a"]}]}
    line = cli.refused(1, "insert", "-", stdin=json.dumps([FORM, cycle]))
    assert line.startswith("rwf: self_loop: workflow 2: ")
    assert cli.json("ls")["workflows"] == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"name": "a"}\n{oops', "invalid_json: line 2"),
        (b"\x80\x81\x82", "invalid_json"),
        (bytes(range(256)) * 100, "invalid_json"),
        (b"[" * 200_000, "invalid_json"),
        (b'{"a":' * 200_000, "invalid_json"),
        (b"9" * 10_000, "invalid_json"),
        (b"null", "invalid_step_definition"),
        (b"42", "invalid_step_definition"),
        (b'"' + b"x" * 1_000_000 + b'"', "invalid_step_definition"),
        (b"[[]]", "invalid_step_definition"),
        (b"{}", "workflow_name_required"),
        (b'{"name": "a\\u001b[31m", "steps": []}', "invalid_name"),
        (b'{"name": "a", "steps": []}', "no_steps"),
        (b'{"name": "a", "steps": {}}', "invalid_step_definition"),
        (b'{"name": "a", "steps": [], "x": 1}', "invalid_step_definition"),
        (b'{"name": "a", "context": NaN, "steps": []}', "non_serializable_payload"),
        (b'{"name": "a", "context": "\\ud800", "steps": []}', "non_serializable_payload"),
        (b'{"name": "a", "context": %d, "steps": []}' % 2**70, "non_serializable_payload"),
        (b'{"name": "a", "context": {"$result": 1}, "steps": []}', "reserved_key"),
    ],
)
def test_what_is_no_workflow_is_refused_in_one_line(cli: Cli, content: bytes, code: str) -> None:
    assert cli.refused(1, "insert", cli.file(content)).startswith(f"rwf: {code}")
    assert cli.refused(1, "insert", "-", stdin=content).startswith(f"rwf: {code}")


def test_a_payload_that_is_too_large(cli: Cli) -> None:
    form = FORM | {"context": "x" * 300_000}
    assert "payload_too_large" in cli.refused(1, "insert", "-", stdin=json.dumps(form))


def test_an_input_without_an_end(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.cli.commands._MAX_INPUT", 1_000_000)
    assert "input_too_large" in cli.refused(1, "insert", "/dev/zero")


@pytest.mark.parametrize("file", ["no such file", ".", "a\0b", "", "x" * 5000, "/etc/passwd/x"])
def test_files_that_cannot_be_read(cli: Cli, file: str) -> None:
    cli.refused(2, "insert", file)


# --- the reading commands ---------------------------------------------------------------------


def test_ls_filters_and_pages(cli: Cli) -> None:
    ids = [cli.inserted() for _ in range(3)]
    cli.ok("complete", ids[0], "fetch", "failed")
    assert re.fullmatch("STATUS +STATE +ID +NAME +STEPS +INSERTED", cli.ok("ls").split("\n")[0])
    assert [view["id"] for view in cli.json("ls")["workflows"]] == ids[::-1]
    review = cli.json("ls", "--status", "needs review")["workflows"]
    assert [view["id"] for view in review] == ids[:1]
    assert len(cli.json("ls", "--state", "available", "--name", "sync_customer")["workflows"]) == 3
    assert cli.json("ls", "--name", "other")["workflows"] == []
    assert cli.ok("ls", "--name", "other") == "no workflows here\n"
    seen = []
    page = cli.json("ls", "--limit", "2")
    seen += page["workflows"]
    assert "--cursor" in cli.ok("ls", "--limit", "2")
    page = cli.json("ls", "--limit", "2", "--cursor", page["cursor"])
    seen += page["workflows"]
    assert [view["id"] for view in seen] == ids[::-1]
    assert "invalid_argument" in cli.refused(1, "ls", "--cursor", "x")


def test_show_a_workflow(cli: Cli) -> None:
    workflow_id = cli.inserted()
    text = cli.ok("show", workflow_id)
    assert text.startswith(f"Runnable  available  sync_customer  {workflow_id}\n")
    assert "\x1b" not in text
    assert r"\u001b[31m rot" in text
    document = cli.json("show", workflow_id)
    assert [step["name"] for step in document["steps"]] == ["fetch", "bill", "notify", "cleanup"]
    assert next(iter(document["steps"][0])) == "operator_status"
    assert document["next_offset"] is None


def test_show_pages_the_steps(cli: Cli) -> None:
    steps = [{"name": f"s{number:03}", "worker": "w"} for number in range(120)]
    form = json.dumps({"name": "wide", "steps": steps})
    workflow_id = cli.json("insert", "-", stdin=form)["id"]
    text = cli.ok("show", workflow_id)
    assert text.count("Runnable") == 1 + 50
    assert "70 more steps: --offset 50, or --all" in text
    assert cli.json("show", workflow_id)["next_offset"] == 50
    assert len(cli.json("show", workflow_id, "--offset", "100")["steps"]) == 20
    assert len(cli.json("show", workflow_id, "--all")["steps"]) == 120
    assert cli.json("show", workflow_id, "--limit", "3")["next_offset"] == 3
    assert cli.json("show", workflow_id, "--offset", "500")["steps"] == []


def test_show_a_step_with_its_results(cli: Cli) -> None:
    workflow_id = cli.inserted()
    payload = {"big": 2**53 + 1, "list": [], "text": "\x1b]0;title\x07"}
    again = ("complete", workflow_id, "fetch", "retryable", "--retry-in", "0")
    cli.ok(*again, "--summary", "line\nbreak")
    cli.ok("complete", workflow_id, "fetch", "--payload", json.dumps(payload))
    text = cli.ok("show", workflow_id, "fetch")
    assert text.startswith("Resolved  completed  fetch  of ")
    assert r"line\nbreak" in text
    assert "\x1b" not in text
    document = cli.json("show", workflow_id, "fetch")
    assert [row["status"] for row in document["results"]] == ["retryable", "completed"]
    assert document["results"][1]["payload"] == payload


def test_the_statuses_of_show_and_graph_are_those_of_explain(cli: Cli) -> None:
    workflow_id = cli.inserted()
    cli.ok("complete", workflow_id, "fetch")
    cli.ok("complete", workflow_id, "bill", "retryable", "--retry-in", "600")
    shown = {
        step["name"]: step["operator_status"] for step in cli.json("show", workflow_id)["steps"]
    }
    explained = {name: cli.json("explain", workflow_id, name)["operator_status"] for name in shown}
    assert shown == explained
    assert shown["notify"] == "Blocked"
    assert "notify  [Blocked, pending]  <- bill" in cli.ok("graph", workflow_id)


def test_explain(cli: Cli) -> None:
    workflow_id = cli.inserted()
    text = cli.ok("explain", workflow_id, "notify")
    assert text.startswith(f"Waiting  pending  notify  of {workflow_id}\n")
    assert "root cause fetch: available (waiting_for_worker), by way of bill;" in text
    document = cli.json("explain", workflow_id, "notify")
    assert document["root_causes"][0]["path"] == ["fetch", "bill", "notify"]
    whole = cli.ok("explain", workflow_id)
    assert whole.startswith(f"Runnable  available  {workflow_id}\n")
    assert cli.json("explain", workflow_id)["counts"]["pending"] == 3


def test_explain_keeps_a_long_way_short(cli: Cli) -> None:
    steps: list[dict[str, Any]] = [{"name": "s0", "worker": "w"}]
    steps += [{"name": f"s{i}", "worker": "w", "deps": [f"s{i - 1}"]} for i in range(1, 300)]
    form = json.dumps({"name": "chain", "steps": steps})
    workflow_id = cli.json("insert", "-", stdin=form)["id"]
    text = cli.ok("explain", workflow_id, "s299")
    assert "by way of s1 > s2 > s3 > s4 > s5 > (288 more) > s294" in text


def test_graph(cli: Cli) -> None:
    workflow_id = cli.inserted()
    assert "cleanup  [Waiting, pending]  <- bill (continue)" in cli.ok("graph", workflow_id)
    mermaid = cli.ok("graph", workflow_id, "--format", "mermaid")
    assert mermaid.startswith("flowchart TD\n")
    assert "n1 -. continue .-> n3" in mermaid
    dot = cli.ok("graph", workflow_id, "--format", "dot")
    assert dot.startswith('digraph "sync_customer" {\n')
    assert dot.endswith("}\n")
    assert len(cli.json("graph", workflow_id)["edges"]) == 3


@pytest.mark.parametrize("name", ["end", "graph", "-", "--", ".", "a.b-c_d", "subgraph", "1.", "0"])
def test_names_that_mean_something_to_a_drawing(cli: Cli, name: str) -> None:
    steps = [{"name": name, "worker": "w"}, {"name": "x", "worker": "w", "deps": [name]}]
    form = json.dumps({"name": name, "steps": steps})
    workflow_id = cli.json("insert", "-", stdin=form)["id"]
    assert f'n0["{name}<br/>' in cli.ok("graph", workflow_id, "--format", "mermaid")
    assert f'n0 [label="{name}\\n' in cli.ok("graph", workflow_id, "--format", "dot")


def test_evidence(cli: Cli) -> None:
    workflow_id = cli.inserted()
    assert cli.ok("evidence", workflow_id) == "no evidence\n"
    cli.ok("complete", workflow_id, "fetch", "--actor", "ann\x07")
    cli.refused(1, "complete", workflow_id, "notify")
    entries = cli.json("evidence", workflow_id)
    assert [entry["status"] for entry in entries] == ["accepted", "rejected"]
    assert [entry["step"] for entry in cli.json("evidence", workflow_id, "--step", "notify")] == [
        "notify"
    ]
    text = cli.ok("evidence", workflow_id)
    assert "dependencies_unresolved" in text
    assert r"ann\x07" in text


# --- complete ---------------------------------------------------------------------------------


def test_complete_tells_what_it_released(cli: Cli) -> None:
    workflow_id = cli.inserted()
    text = cli.ok("complete", workflow_id, "fetch", "--payload", '{"a": [1, 2.5, null]}')
    assert text.splitlines()[:2] == ["Resolved  completed  fetch  accepted", "  released bill"]
    document = cli.json("complete", workflow_id, "bill", "failed")
    assert document["cancelled"] == ["notify"]
    assert document["released"] == ["cleanup"]
    assert document["workflow"]["operator_status"] == "Needs Review"
    with Client.from_url(cli.url) as client:
        found = client.result(workflow_id, "fetch")
        assert found is not None
        assert found.payload == {"a": [1, 2.5, None]}


def test_complete_takes_a_payload_from_a_file_or_standard_input(cli: Cli) -> None:
    workflow_id = cli.inserted()
    cli.ok("complete", workflow_id, "fetch", "--payload", "@" + cli.file("[1]", "payload.json"))
    cli.ok("complete", workflow_id, "bill", "--payload", "@-", stdin="[2]")
    with Client.from_url(cli.url) as client:
        assert [row.payload for row in client.results(workflow_id)] == [[1], [2]]


def test_a_command_id_makes_a_duplicate(cli: Cli) -> None:
    workflow_id = cli.inserted()
    command = ("complete", workflow_id, "fetch", "--command-id", "c1")
    assert [cli.json(*command)["outcome"] for _ in range(2)] == ["accepted", "duplicate"]


def test_refused_completions(cli: Cli) -> None:
    workflow_id = cli.inserted()
    line = cli.refused(1, "complete", workflow_id, "notify")
    assert line.startswith("rwf: dependencies_unresolved: ")
    assert line.endswith("(next: explain_step)\n")
    assert "step_not_found" in cli.refused(1, "complete", workflow_id, "no")
    assert "workflow_not_found" in cli.refused(1, "complete", NO_ID, "fetch")
    assert "stale_lease" in cli.refused(1, "complete", workflow_id, "fetch", "--lease", "x")
    cli.ok("complete", workflow_id, "fetch")
    assert "already_terminal" in cli.refused(1, "complete", workflow_id, "fetch", "failed")
    told = json.loads(cli.refused(1, "complete", workflow_id, "fetch", "failed", "--json"))
    assert told["error"] == "already_terminal"
    assert told["legal_next_steps"] == ["inspect_step_result", "recover_step"]


@pytest.mark.parametrize("payload", ["{", "", "@/no/such/file", "@.", "@a\0b", "[" * 100_000])
def test_payloads_that_are_none(cli: Cli, payload: str) -> None:
    cli.refused(2, "complete", NO_ID, "fetch", "--payload", payload)


@pytest.mark.parametrize(
    "given",
    [
        ("--payload", "NaN"),
        ("--payload", "[" * 300 + "]" * 300),
        ("--payload", '"' + "x" * 300_000 + '"'),
        ("--payload", str(2**70)),
        ("--retry-in", "5"),
        ("--actor", ""),
        ("--actor", "x" * 10_000),
        ("--summary", "x" * 10_000),
        ("--command-id", "\ud800"),
        ("--lease", ""),
    ],
)
def test_arguments_that_the_client_refuses(cli: Cli, given: Sequence[str]) -> None:
    cli.refused(1, "complete", cli.inserted(), "fetch", *given)


# --- the server -------------------------------------------------------------------------------


def test_migrate_loads_once(cli: Cli, one_server: AnyServer) -> None:
    any_client: Any = one_server.client()
    any_client.execute_command("FUNCTION FLUSH")
    first, again = cli.json("migrate"), cli.json("migrate")
    assert (first["loaded"], again["loaded"]) == (True, False)
    assert first["library"] == again["library"]
    assert (first["namespace"], first["partitions"]) == ("rwf", 1)
    assert "was loaded already" in cli.ok("migrate")


def test_doctor_on_a_good_server(cli: Cli) -> None:
    cli.ok("migrate")
    report = cli.json("doctor")
    assert report["healthy"] is True
    found = {check["name"]: check["status"] for check in report["checks"]}
    assert found == {
        "reachable": "ok",
        "version": "ok",
        "persistence": "warning",
        "eviction": "ok",
        "memory": "ok",
        "role": "ok",
        "cluster": "ok",
        "clock": "ok",
        "library": "ok",
        "namespace": "ok",
    }
    assert "set appendonly yes" in cli.ok("doctor")


def test_doctor_changes_nothing(cli: Cli, one_server: AnyServer) -> None:
    any_client: Any = one_server.client()
    any_client.execute_command("FUNCTION FLUSH")
    report = cli.json("doctor")
    advice = {check["name"]: check["advice"] for check in report["checks"]}
    assert "rwf migrate" in advice["library"]
    assert any_client.dbsize() == 0
    assert any_client.execute_command("FUNCTION LIST") == []


def test_doctor_reports_a_server_that_rwf_refuses(tmp_path: Path) -> None:
    extra = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    with Server.start("redis70", aof=True, extra=extra) as server:
        cli = Cli(server.url, tmp_path)
        found = cli("doctor")
        assert found.exit_code == 3
        assert found.stderr == ""
        assert "failed   eviction     maxmemory-policy allkeys-lru; " in found.stdout
        assert "ok       persistence  append-only file, appendfsync everysec" in found.stdout
        assert json.loads(cli("doctor", "--json").stdout)["healthy"] is False
        assert "store_misconfigured: maxmemory-policy" in cli.refused(3, "ls")
        any_client: Any = server.client()
        any_client.config_set("maxmemory-policy", "noeviction")
        any_client.config_set("maxmemory", "1mb")
        assert "failed   memory" in cli("doctor").stdout
        any_client.config_set("maxmemory", "0")
        any_client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert "failed   role         replica; " in cli("doctor").stdout


def test_an_old_server(tmp_path: Path) -> None:
    with Server.start("redis62") as server:
        cli = Cli(server.url, tmp_path)
        assert "failed   version      redis 6.2." in cli("doctor").stdout
        assert "too old" in cli.refused(3, "migrate")


def test_a_user_without_rights(one_server: AnyServer, tmp_path: Path) -> None:
    any_client: Any = one_server.client()
    rules = ("on", ">secret", "~*", "+@all", "-info", "-hget", "-config", "-function")
    any_client.execute_command("ACL", "SETUSER", "bob", *rules)
    cli = Cli(one_server.url.replace("redis://", "redis://bob:secret@"), tmp_path)
    assert cli("doctor").exit_code == 0
    assert "this user may not read" in cli("doctor").stdout
    line = cli.refused(3, "ls")
    assert "store_misconfigured" in line
    wrong = Cli(one_server.url.replace("redis://", "redis://bob:hunter2@"), tmp_path)
    for command in ("ls", "doctor"):
        line = wrong.refused(3, command)
        assert "refused the login" in line
        assert "hunter2" not in line


def test_doctor_on_a_cluster(pool: Any, tmp_path: Path) -> None:
    cluster = pool.get("cluster")
    cli = Cli(cluster.url, tmp_path)
    cli.ok("migrate")
    report = cli.json("doctor")
    assert report["healthy"] is True
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert found["cluster"] == "state ok, 16384 of 16384 slots served"
    alone = Cli(cluster.nodes[0].url, tmp_path)
    assert "connect with redis+cluster://" in alone("doctor").stdout
    assert alone("doctor").exit_code == 3
    single = pool.get("valkey91")
    wrong = Cli(single.url.replace("redis://", "redis+cluster://"), tmp_path)
    assert "not part of a cluster" in wrong.refused(3, "ls")


def test_server_runs_until_it_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rwf", "server", str(tmp_path / "a folder"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        cli = Cli(told["url"], tmp_path)
        assert cli.json("doctor")["healthy"] is True
        os.kill(told["pid"], signal.SIGKILL)
        workflow_id = cli.inserted()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    with Client.from_url(told["url"]) as client:
        assert client.get(workflow_id).name == "sync_customer"


def test_server_asks_for_one_folder(cli: Cli) -> None:
    cli.refused(2, "server")
    cli.refused(2, "server", "x", "--url", "embedded:///x")
    cli.refused(2, "server", "a\0b")
    cli.refused(3, "server", "--url", "redis://x")
    cli.refused(3, "server", cli.file("", "a file"))


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", READING)
def test_what_does_not_exist(cli: Cli, command: str) -> None:
    assert cli.refused(1, command, NO_ID).startswith("rwf: not_found: ")
    told = json.loads(cli.refused(1, command, NO_ID, "--json"))
    assert told["error"] == "not_found"


@pytest.mark.parametrize(
    "text", ["", "x", "a\0b", "\x1b[31m", "\ud800", "ä" * 10_000, "{0}", "0-../../etc", "a\nb"]
)
def test_ids_and_steps_that_nobody_has(cli: Cli, text: str) -> None:
    for command in READING:
        cli.refused(1, command, text)
    cli.refused(1, "complete", text, "fetch")
    workflow_id = cli.inserted()
    for command in ("show", "explain"):
        cli.refused(1, command, workflow_id, text)
    cli.refused(1, "complete", workflow_id, text)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("nope",),
        ("a\0b",),
        ("ls", "--nope"),
        ("ls", "extra"),
        ("ls", "--limit", "0"),
        ("ls", "--limit", "501"),
        ("ls", "--limit", "x"),
        ("ls", "--state", "x\ny"),
        ("ls", "--status"),
        ("ls", "--namespace", "{a}"),
        ("ls", "--namespace", "a b"),
        ("ls", "--url", "nope"),
        ("ls", "--url", "http://a:secret@b"),
        ("ls", "--url", "redis://:secret@host:port"),
        ("ls", "--url", "redis://:se/cret@host"),
        ("ls", "--url", "redis+sentinel://:secret@host"),
        ("show",),
        ("insert",),
        ("complete", NO_ID),
        ("complete", NO_ID, "a", "done"),
        ("graph", NO_ID, "--format", "png"),
        ("demo", "--input", "/no/such/file"),
        ("demo", "--input", "."),
        ("demo", "--folder", "x", "--url", "embedded:///x"),
    ],
)
def test_usage(cli: Cli, args: Sequence[str]) -> None:
    line = cli.refused(2, *args)
    assert line.startswith("rwf: usage: ")
    assert "cret" not in line
    told = json.loads(cli.refused(2, *(args or ("nope",)), "--json"))
    assert told["error"] == "usage"


@pytest.mark.parametrize(
    "args",
    [
        ("ls",),
        ("show", NO_ID),
        ("graph", NO_ID),
        ("explain", NO_ID, "a"),
        ("evidence", NO_ID),
        ("complete", NO_ID, "a"),
        ("migrate",),
        ("doctor",),
    ],
)
def test_nobody_answers(tmp_path: Path, args: Sequence[str]) -> None:
    cli = Cli(NOBODY.replace("://", "://user:hunter2@"), tmp_path)
    line = cli.refused(3, *args)
    assert line.startswith("rwf: store_unavailable: ")
    assert "hunter2" not in line


def test_a_namespace_with_other_partitions(cli: Cli) -> None:
    with Client.from_url(cli.url, namespace="other", partitions=4) as client:
        client.list()
    assert cli.json("migrate", "--namespace", "other")["partitions"] == 4
    assert cli.json("migrate")["partitions"] == 1


def test_the_environment_and_the_options(one_server: AnyServer) -> None:
    named = run("insert", "-", "--json", stdin=json.dumps(FORM).encode(), env={
        "RWF_URL": one_server.url, "RWF_NAMESPACE": "mine",
    })  # fmt: skip
    assert named.returncode == 0, named.stderr
    found = run("ls", "--json", "--namespace", "mine", "--url", one_server.url)
    assert len(json.loads(found.stdout)["workflows"]) == 1
    assert json.loads(run("ls", "--json", "--url", one_server.url).stdout)["workflows"] == []


def test_a_reader_that_goes_away(cli: Cli) -> None:
    steps = [{"name": f"step-{number:05}", "worker": "w"} for number in range(5_000)]
    form = json.dumps({"name": "wide", "steps": steps})
    workflow_id = cli.json("insert", "-", stdin=form)["id"]
    command = [sys.executable, "-m", "rwf", "show", workflow_id, "--all", "--url", cli.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_full(cli: Cli) -> None:
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            [sys.executable, "-m", "rwf", "migrate", "--url", cli.url],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert found.returncode == 1
    assert one_line(found.stderr).startswith("rwf: io_error: ")


def test_control_c(tmp_path: Path) -> None:
    with Server.start("valkey91") as server:
        os.kill(server.pid, signal.SIGSTOP)
        command = [sys.executable, "-m", "rwf", "ls", "--url", server.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            connections = f"/proc/{process.pid}/fd"
            until(lambda: _has_socket(connections), what="the connection")
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
        os.kill(server.pid, signal.SIGCONT)
    assert process.returncode == 130
    assert stderr == b"rwf: interrupted\n"


def _has_socket(folder: str) -> bool:
    try:
        targets = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    except OSError:
        return False
    return any(target.startswith("socket:") for target in targets)


def test_a_terminal_that_cannot_show_everything(cli: Cli) -> None:
    form = json.dumps(FORM | {"context": "ä€😀"})
    workflow_id = cli.json("insert", "-", stdin=form)["id"]
    found = run("show", workflow_id, "--url", cli.url, env={"PYTHONIOENCODING": "latin-1"})
    assert found.returncode == 0
    assert b"\xe4\\u20ac\\U0001f600" in found.stdout


def test_bytes_that_are_no_text(cli: Cli) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "rwf", "show", b"\xff\xfe", "--url", cli.url],
        capture_output=True,
        check=False,
    )
    assert found.returncode == 1
    one_line(found.stderr.decode())


def test_an_error_that_nobody_foresaw(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise ZeroDivisionError("with hunter2 in it")

    monkeypatch.setattr(Client, "list", fail)
    assert cli.refused(1, "ls") == "rwf: internal_error: unexpected ZeroDivisionError\n"


def test_every_command_explains_itself_and_has_the_options() -> None:
    assert sorted(program.commands) == sorted(NAMES)
    for name in NAMES:
        found = CliRunner().invoke(program, [name, "--help"])
        assert found.exit_code == 0
        for option in ("--url", "--namespace", "--json"):
            assert option in found.stdout, name
    assert CliRunner().invoke(program, ["--version"]).stdout.startswith("rwf ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä€", "plain ä€"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\x00\x7f", r"a\nb\tc\x00\x7f"),
        ("\u202eabc", r"\u202eabc"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escaping(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_workflow_built_in_python_goes_in_as_its_json_form(cli: Cli) -> None:
    built = Workflow("w").add("a", worker="a").add("b", worker="b", input=result("a", "x.y"))
    view = cli.json("insert", "-", stdin=json.dumps(built.to_dict()))
    assert cli.json("show", view["id"], "b")["input"] == {"$result": "a", "path": "x.y"}
