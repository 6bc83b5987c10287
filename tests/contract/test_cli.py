"""The command line: inserting, completing and reading, for people and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from rwf import Client, Workflow, result
from tests.support.commandline import FORM, NO_ID, Cli

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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"name": "a", "name": "b", "steps": []}', "the key 'name' stands twice in $"),
        (
            '{"name": "a", "steps": [{"name": "s", "input": {"n": 1, "x y": {"k": 1, "k": 1}}}]}',
            "the key 'k' stands twice in $.steps[0].input['x y']",
        ),
        ('{"name": "a"}\n{"name": "b", "context": {"k": 1, "k": 2}}', "line 2: the key 'k'"),
        ('{"name": "a", "name": "a"}\n{"name": "b"}', "line 1: the key 'name'"),
        ('[{"name": "a"}, {"name": "b", "": 1, "": 2}]', "the key '' stands twice in $[1]"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_place(
    cli: Cli, content: str, told: str
) -> None:
    line = cli.refused(1, "insert", "-", stdin=content)
    assert line.startswith("rwf: invalid_json: ")
    assert told in line
    assert cli.json("ls")["workflows"] == []


def test_a_key_that_stands_twice_in_a_payload_is_refused(cli: Cli) -> None:
    line = cli.refused(2, "signal", "go", "k", "--payload", '{"n": 1, "n": 2}')
    assert "the key 'n' stands twice in $" in line


def test_a_payload_that_is_too_large(cli: Cli) -> None:
    form = FORM | {"context": "x" * 300_000}
    assert "payload_too_large" in cli.refused(1, "insert", "-", stdin=json.dumps(form))


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
    assert "root cause fetch: available (waiting_for_worker), by way of bill\n" in text
    assert f"    rwf complete {workflow_id} fetch\n" in text
    assert "    or run a worker that serves its queue\n" in text
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


def test_a_workflow_built_in_python_goes_in_as_its_json_form(cli: Cli) -> None:
    built = Workflow("w").add("a", worker="a").add("b", worker="b", input=result("a", "x.y"))
    view = cli.json("insert", "-", stdin=json.dumps(built.to_dict()))
    assert cli.json("show", view["id"], "b")["input"] == {"$result": "a", "path": "x.y"}
