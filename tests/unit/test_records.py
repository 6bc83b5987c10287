"""Stored records as literal text: how an insert writes them, and how they are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rwf import RecordUnreadable, Workflow, result
from rwf.model.states import EdgePolicy, StepCause, StepState, WaitStatus
from rwf.protocol import codecs as stored
from rwf.protocol import records
from rwf.protocol.functions.topics import SignalReply
from rwf.protocol.headers import Header
from rwf.protocol.records import Record, Row, fields_of
from rwf.protocol.stored import ClaimRecord
from rwf.protocol.waits import Signal, Wait

CANCEL, CONTINUE = EdgePolicy.CANCEL, EdgePolicy.CONTINUE
INSERTED = 1_700_000_000_123
AT = datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
STAMP = "17000000001234560007"
STAMPED = datetime(2023, 11, 14, 22, 13, 20, 123_456, UTC)


def ms(count: int) -> datetime:
    return AT + timedelta(milliseconds=count)


# --- writing


def test_what_an_insert_stores() -> None:
    workflow = Workflow("wf", context={"k": 1})
    workflow.add("a", worker="a", input={"x": 1}, context=[2])
    workflow.add("b", worker="w", input=result("a"), queue="q", priority=-7, max_attempts=3)
    workflow.add("c", worker="c", backoff=7, timeout=2.5, context=3).connect("a", "c", "continue")
    workflow.add("d", worker="d", input=[result("b"), result("c")], deps=["c"], timeout=4).add(
        "e", worker="e", backoff=1
    )
    stored = fields_of(workflow.compile())
    assert stored.own == [
        ("#0", b"a,b,c,d,e"),
        ("^", b"c,0,,,0,0,0,,,,,0,||0|||a,e||"),
        ("a", b"p,1,,,0,5,0,,,,,,||0|ic||b,+c||"),
        ("b", b"p,1,,,0,3,0,,,,,,|q:1007|1|ir||d|a|w"),
        ("c", b"p,1,,,0,5,0,,,,,,||2|c|7:1:7:n;2.5|d|+a|"),
        ("d", b"p,2,,,0,5,0,,,,,,||3|ir|;4||b,c|"),
        ("e", b"p,1,,,0,5,0,,,,,,||4||1:1:1:n;|||"),
    ]
    assert stored.payload == [
        (":", b'{"k":1}'),
        ("i:a", b'{"x":1}'),
        ("c:a", b"[2]"),
        ("f:b", b"a"),
        ("i:b", b'{"$result":"a"}'),
        ("c:c", b"3"),
        ("f:d", b"b,c"),
        ("i:d", b'[{"$result":"b"},{"$result":"c"}]'),
    ]


@pytest.mark.parametrize(
    ("lengths", "inline"),
    [
        ([2] * 64, True),
        ([2] * 65, False),
        ([128] + [127] * 7, True),  # 1,024 bytes with their commas
        ([128] * 2 + [127] * 6, False),
    ],
)
def test_edges_stand_in_the_record_as_far_as_they_fit(lengths: list[int], inline: bool) -> None:
    names = [f"{number:02}".ljust(length, "x") for number, length in enumerate(lengths)]
    workflow = Workflow("wf").add("a", worker="w")
    for child in names:
        workflow.add(child, worker="w", deps=["a"])
    stored = fields_of(workflow.compile())
    children = dict(stored.own)["a"].split(b"|")[5].decode()
    assert children == (",".join(names) if inline else f"#{len(names)}")
    chunk = None if inline else ",".join(names).encode()
    assert dict(stored.payload).get("k:a:0") == chunk


def test_long_lists_are_stored_in_chunks_of_200() -> None:
    parents = [f"p{number}" for number in range(401)]
    workflow = Workflow("wf").add_many({"name": name, "worker": "w"} for name in parents)
    workflow.add("last", worker="w")
    for name in parents:
        workflow.connect(name, "last", "continue")
    stored = fields_of(workflow.compile())
    own, payload = dict(stored.own), dict(stored.payload)
    assert [key for key in own if key[0] == "#"] == ["#0", "#1", "#2"]
    assert own["#1"].decode().split(",") == parents[200:400]
    assert own["#2"] == b"p400,last"
    assert own["last"].startswith(b"p,401,")
    assert own["last"].split(b"|")[6] == b"#401"
    assert own["^"].split(b"|")[5] == b"#401"
    assert payload["u:last:2"] == b"+p400"
    assert payload["u:last:0"].decode() == ",".join(f"+{name}" for name in parents[:200])
    assert payload["k:^:1"].decode() == ",".join(parents[200:400])
    assert len(payload) == 6


# --- what cannot be read


def test_what_cannot_be_read_has_an_error_of_its_own() -> None:
    number = stored.reading(int)
    assert number("7") == 7
    with pytest.raises(RecordUnreadable, match="corrupt record"):
        number("x")


# --- times


def test_times_are_exact() -> None:
    assert stored.time_of(INSERTED) == AT
    assert stored.time_of(INSERTED + 876) == datetime(2023, 11, 14, 22, 13, 20, 999_000, UTC)
    assert stored.time_of_stamp(STAMP) == STAMPED
    assert stored.time_of_micros(1_700_000_000_123_456) == STAMPED
    assert stored.time_of_micros(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)


# --- the header


def test_a_header_of_a_workflow_that_runs() -> None:
    header = Header.parse(
        b"2,7,12,1700000000123,604800000,c,the, name", b"p3a2w1r1c1f1d1x1t1;40,5,"
    )
    assert header.counts[StepState.PENDING] == 3
    assert header.counts[StepState.EXECUTING] == 0
    assert header.name == "the, name"
    assert (header.kept, header.callbacks, header.recoveries) == (604_800_000, 0, 0)
    assert not header.needs_review
    view = header.view("0-x", b"[1]")
    assert view.model_dump() == {
        "id": "0-x",
        "name": "the, name",
        "state": "available",
        "semantics_version": 2,
        "definition_version": 7,
        "context": [1],
        "step_count": 12,
        "runnable_step_count": 2,
        "completed_step_count": 1,
        "cancelled_step_count": 1,
        "failed_step_count": 3,
        "terminal_cause": None,
        "cancel_requested_at": None,
        "cancel_reason": None,
        "inserted_at": AT,
        "started_at": ms(5),
        "finished_at": None,
        "last_transition_at": ms(40),
        "duplicate": False,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "acknowledged_reason": None,
        "skipped_step_count": 0,
        "starts_at": None,
        "deadline_at": None,
        "parent": None,
        "parent_step": None,
        "tags": {},
        "traceparent": None,
    }


def test_a_header_of_one_that_has_ended() -> None:
    header = Header.parse(
        b"2,1,2,1700000000123,,,wf", b"c1x1;90,,90,70:late%2C%20so%20p7,4,4,5,2,1,3,1,"
    )
    assert (header.kept, header.callbacks, header.open, header.dead) == (None, 5, 2, 1)
    assert (header.recoveries, header.moving.review, header.unwalked) == (3, True, 0)
    assert header.counts[StepState.PENDING] == 0
    view = header.view("0-x", None, duplicate=True)
    assert (view.state, view.terminal_cause) == ("cancelled", "operator_cancelled")
    assert (view.cancel_requested_at, view.cancel_reason) == (ms(70), "late, so p7")
    assert (view.started_at, view.finished_at, view.duplicate) == (None, ms(90), True)
    assert view.context is None


def test_what_is_left_to_be_walked_keeps_a_workflow_from_its_end() -> None:
    header = Header.parse(b"2,1,1,1700000000123,,,wf", b"c1;90,,,,3,4,0,0,0,0,,1")
    assert header.unwalked == 1
    view = header.view("0-x", None)
    assert (view.state, view.terminal_cause) == ("pending", None)


@pytest.mark.parametrize(
    ("moving", "found"), [(b"c1;9,,", [0, 0, 0]), (b"c1;9,,9,,0,0,5,2,1,0,,", [5, 2, 1])]
)
def test_callbacks_that_a_header_counts(moving: bytes, found: list[int]) -> None:
    assert Header.callbacks_of(moving) == found


@pytest.mark.parametrize(
    ("dead", "review", "finished", "needed"),
    [
        ("0", "", "9", False),
        ("1", "", "9", True),
        ("1", "", "", True),
        ("0", "1", "", True),
        ("0", "1", "9", False),
    ],
)
def test_who_needs_review(dead: str, review: str, finished: str, needed: bool) -> None:
    moving = f"c1;9,,{finished},,0,0,5,2,{dead},0,{review},".encode()
    assert Header.parse(b"2,1,1,1700000000123,,,wf", moving).needs_review is needed


# --- a step

HEADER = Header.parse(b"2,1,2,1700000000123,,,wf", b"e1;40,5,,30:why,0,0,0,0,0,0,,")


def test_a_step_that_runs() -> None:
    record = Record.named(
        "a", b"e,0,20,77,2,2+3,1,10,,,,,tok:90:1:w%20%31|q:0993|4|irc|7:1:7:n;2.5|b,+c|+p|wo|rk"
    )
    assert record.running == ClaimRecord("tok", 90, True, "w 1")
    assert (record.lease, record.order, record.reported) == ("2-tok", "77", 1)
    assert (record.timeout, record.parent_count, record.singled_out) == (2.5, 1, False)
    assert (record.lacks_result, record.recovering, record.payloads) == (False, False, "irc")
    assert record.view(HEADER, b"1", b"2").model_dump() == {
        "name": "a",
        "worker": "wo|rk",
        "queue": "q",
        "priority": 7,
        "state": "executing",
        "attempt": 2,
        "max_attempts": 5,
        "position": 4,
        "dependency_count": 1,
        "terminal_cause": None,
        "input": 1,
        "context": 2,
        "lease_expires_at": ms(90),
        "leased_by": "w 1",
        "retry_at": None,
        "awaiting": None,
        "cancel_requested_at": ms(30),
        "started_at": ms(10),
        "finished_at": None,
        "last_transition_at": ms(20),
        "when": None,
        "always": False,
        "dispatched": False,
        "appended_by": None,
    }


def test_a_step_that_will_run_again() -> None:
    record = Record.named("a", b"r,0,20,,1,5,1,10,,,99,,||0|||#401|#70|")
    view = record.view(HEADER, None, None)
    assert (view.state, view.retry_at, view.worker) == ("retryable", ms(99), "a")
    assert (view.queue, view.priority, view.dependency_count) == ("default", 0, 70)
    assert (view.lease_expires_at, view.leased_by, view.cancel_requested_at) == (None, None, None)
    assert (record.lease, record.timeout, record.running) == (None, None, None)


@pytest.mark.parametrize(
    ("moving", "attribute"),
    [
        ("p,1,,,0,5,0,,,,,b,", "lacks_result"),
        ("p,1,,,0,5,0,,,,,h,<x=", "recovering"),
        ("x,0,9,,0,5,0,,9,o,,,!", "singled_out"),
    ],
)
def test_marks_of_a_step(moving: str, attribute: str) -> None:
    record = Record.named("a", f"{moving}||0|||||".encode())
    marks = ("lacks_result", "recovering", "singled_out")
    assert [name for name in marks if getattr(record, name)] == [attribute]
    assert record.running is None


def test_a_step_that_has_ended() -> None:
    record = Record.named("a", b"x,0,50,,0,5,0,,50,d,,0,||0|||||")
    assert record.cause is StepCause.CANCELLED_BY_DEPENDENCY
    view = record.view(HEADER, None, None)
    assert (view.started_at, view.finished_at) == (None, ms(50))
    assert view.retry_at is None
    assert view.dependency_count == 0


def test_a_step_that_has_not_moved_yet() -> None:
    record = Record.named("a", b"p,1,,,0,5,0,,,,,,||0|||||")
    assert record.view(HEADER, None, None).last_transition_at == AT


@pytest.mark.parametrize(("edges", "count"), [("", 0), ("a", 1), ("a,+b,c", 3), ("#401", 401)])
def test_edges_are_counted(edges: str, count: int) -> None:
    assert records.edge_count(edges) == count


def test_edges_are_read() -> None:
    assert records.edges_of("") == []
    assert records.edges_of("a,+b") == [("a", CANCEL), ("b", CONTINUE)]


# --- a result row

ROW = f'c,d,{STAMP},call,cmd,2-tok,3,12,4|a,b|c|{{"summary":"s|t","actor":"ann"}}'.encode()


def test_a_result_row() -> None:
    row = Row.parse(ROW)
    assert (row.status, row.open, row.released, row.cancelled) == (
        "discarded",
        3,
        12,
        4,
    )
    assert (row.released_names, row.cancelled_names) == (("a", "b"), ("c",))
    assert row.view("x", 2, b"[1]", b"T\xff").model_dump() == {
        "step": "x",
        "attempt": 2,
        "status": "discarded",
        "payload": [1],
        "payload_bytes": b"[1]",
        "summary": "s|t",
        "recorded_at": STAMPED,
        "available_at": None,
        "claimed_at": None,
        "worker_id": None,
        "traceback": "T\ufffd",
    }
    bare = row.view("x", 2, None, None)
    assert (bare.payload_bytes, bare.traceback) == (b"", None)
    assert Row.is_open(ROW)
    assert not Row.is_open(ROW.replace(b",3,12,", b",0,12,"))
    assert records.names_of(b"") == ()


def test_a_result_row_is_evidence() -> None:
    entry = records.result_evidence("0-x", "a", 2, Row.parse(ROW))
    assert entry.model_dump() == {
        "id": f"0-x/{STAMP}",
        "action": "complete_step",
        "scope": "step",
        "step": "a",
        "status": "accepted",
        "reason_code": None,
        "message": "attempt 2 reported discarded",
        "actor": "ann",
        "source": "client",
        "requested_at": STAMPED,
        "before": None,
        "after": "discarded",
        "metadata": {"attempt": 2},
    }


@pytest.mark.parametrize(
    ("step", "reason", "note", "found"),
    [
        ("a%7Cb", "stale_lease", "{}", ("a|b", "stale_lease", None, "client", None, None, {})),
        (
            "",
            "",
            '{"actor":"ann","source":"cli","before":"failed","after":"available","x":["|"]}',
            (None, None, "ann", "cli", "failed", "available", {"x": ["|"]}),
        ),
    ],
)
def test_an_entry_of_evidence(step: str, reason: str, note: str, found: tuple[Any, ...]) -> None:
    text = f"{STAMP}|recover_step|step|{step}|rejected|{reason}|call|a message|{note}"
    view = records.evidence_view("0-x", text.encode())
    assert (view.id, view.action, view.scope) == (f"0-x/{STAMP}", "recover_step", "step")
    assert (view.status, view.message, view.requested_at) == ("rejected", "a message", STAMPED)
    assert (view.step, view.reason_code, view.actor, view.source, view.before, view.after) == found[
        :6
    ]
    assert view.metadata == found[6]


@pytest.mark.parametrize(
    ("kept", "finished", "open_", "removal"),
    [
        ("500", "40", 0, 1700000000663),
        ("500", "", 0, None),
        ("", "40", 0, None),
        ("500", "40", 1, 1700000000663),
        ("0", "0", 0, 1700000000123),
    ],
)
def test_when_a_workflow_may_be_removed(
    kept: str, finished: str, open_: int, removal: int | None
) -> None:
    header = Header.parse(
        f"2,1,1,1700000000123,{kept},,wf".encode(),
        f"c1;90,,{finished},,0,0,1,{open_},0,0,,".encode(),
    )
    assert header.removal == removal


# --- what is read of a record apart


def test_the_place_of_an_available_step() -> None:
    stored = b"a,0,5,00ab,0,5,0,,,,,,|%b|0|||||work"
    assert Record.place_of(stored % b"") == (b"00ab", b"default:1000")
    assert Record.place_of(stored % b"billing:0990") == (b"00ab", b"billing:0990")


def test_the_timer_of_a_step() -> None:
    executing = b"e,0,5,00ab,1,5,0,5,,,,,tok:30005:1:w%7C1|"
    retried = b"r,0,5,,1,5,1,5,,,1705,,|"
    behind = b"|0|||||work"
    assert Record.timer_of(executing + behind) == 30005
    assert Record.timer_of(retried + behind) == 1705


# --- waits and signals


def test_an_open_wait() -> None:
    wait = Wait.parse(f"2,w,{STAMP},1700000001123456,,,,1+3,,,|go|order%205".encode())
    assert (wait.left, wait.unacked) == ("1+3", "w")
    assert wait.view("0-x", "a").model_dump() == {
        "id": "0-x/a/2",
        "workflow_id": "0-x",
        "step": "a",
        "signal": "go",
        "correlation_key": "order 5",
        "status": "waiting",
        "deadline": STAMPED + timedelta(seconds=1),
        "registered_at": STAMPED,
        "resolved_at": None,
        "signal_id": None,
        "actor": None,
        "on_timeout": "expire",
        "child": None,
    }


def test_who_has_asked_for_a_wait_is_stored_behind_its_call() -> None:
    wait = Wait.parse(f"1,w,{STAMP},,,,,,,aZ-_9~ann%20%7E%2C,token|go|k".encode())
    assert wait.view("0-x", "a").actor == "ann ~,"
    unacked = Wait.parse(f"1,w,{STAMP},,,,,,,aZ-_9,token|go|k".encode())
    assert unacked.view("0-x", "a").actor is None


def test_a_wait_that_is_over() -> None:
    wait = Wait.parse(f"1,r,{STAMP},,1700000001123456,s/1,w,,,,|go|k".encode())
    assert wait.left == ""
    view = wait.view("0-x", "a")
    assert (view.status, view.signal_id, view.deadline) == ("resolved", "s/1", None)
    assert view.resolved_at == STAMPED + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("code", "status", "acked", "unacked"),
    [
        ("w", WaitStatus.WAITING, "", "w"),
        ("w", WaitStatus.WAITING, "w", None),
        ("r", WaitStatus.RESOLVED, "x", "r"),
        ("r", WaitStatus.RESOLVED, "r", None),
        ("x", WaitStatus.EXPIRED, "w", "x"),
        ("x", WaitStatus.EXPIRED, "x", None),
        ("y", WaitStatus.EXPIRED, "x", "g"),
        ("y", WaitStatus.EXPIRED, "g", None),
        ("a", WaitStatus.ABANDONED, "w", "g"),
        ("a", WaitStatus.ABANDONED, "r", None),
    ],
)
def test_what_a_topic_is_to_be_told(
    code: str, status: WaitStatus, acked: str, unacked: str | None
) -> None:
    wait = Wait.parse(f"1,{code},{STAMP},,,,{acked},,,,|go|k".encode())
    assert (wait.view("0-x", "a").status, wait.unacked) == (status, unacked)


@pytest.mark.parametrize(
    ("code", "deadline", "due"),
    [("w", "1700000001123456", 1700000001124), ("w", "1000", 1), ("w", "", None), ("x", "5", None)],
)
def test_when_a_wait_is_due(code: str, deadline: str, due: int | None) -> None:
    assert Wait.parse(f"1,{code},{STAMP},{deadline},,,,,,,|go|k".encode()).due == due


@pytest.mark.parametrize(
    ("code", "acked", "left", "is_registered", "has_news"),
    [
        ("w", "w", "", True, False),
        ("w", "", "", True, True),
        ("x", "x", "1", True, True),
        ("r", "r", "", False, False),
        ("a", "g", "", False, False),
    ],
)
def test_what_a_topic_keeps_of_a_wait(
    code: str, acked: str, left: str, is_registered: bool, has_news: bool
) -> None:
    wait = Wait.parse(f"1,{code},{STAMP},,,,{acked},{left},,,|go|k".encode())
    assert (wait.is_registered, wait.has_news) == (is_registered, has_news)


def test_a_signal() -> None:
    found = Signal.of(SignalReply(7, "consumed", "0-x", "a", STAMP, "d%20e", "a%20n", b"[1]"))
    assert (found.number, found.status, found.dedupe_key) == (7, "consumed", "d e")
    assert (found.workflow_id, found.step, found.payload) == ("0-x", "a", b"[1]")
    assert found.view("0-d/7", "go", "k", duplicate=True).model_dump() == {
        "id": "0-d/7",
        "signal": "go",
        "correlation_key": "k",
        "dedupe_key": "d e",
        "status": "consumed",
        "payload": [1],
        "workflow_id": "0-x",
        "step": "a",
        "received_at": STAMPED,
        "actor": "a n",
        "duplicate": True,
    }
    kept = Signal.of(SignalReply(8, "unmatched", "", "", STAMP, "d", "", None))
    assert (kept.workflow_id, kept.step, kept.stamp, kept.payload) == (None, None, STAMP, None)
    assert (kept.actor, kept.dedupe_key) == (None, "d")


# --- acknowledgements


@pytest.mark.parametrize(
    ("told", "by"),
    [
        (b"", None),
        (b"|3,95|ann%2C%20of%7C|why%20not", "ann, of|"),
        (b"|2,95|ann|why", None),  # a recovery has come since
    ],
)
def test_an_acknowledgement_is_told_behind_the_counts(told: bytes, by: str | None) -> None:
    static = b"2,1,1,1700000000123,,,wf"
    view = Header.parse(static, b"f1;90,,90,,0,0,0,0,0,3,," + told).view("0-x", None)
    assert view.acknowledged_by == by
    assert view.acknowledged_at == (None if by is None else ms(95))
    assert view.acknowledged_reason == (None if by is None else "why not")
    open_ = Header.parse(static, b"a1;90,,,,0,0,0,0,0,3,," + told).view("0-x", None)
    assert open_.acknowledged_by is None
