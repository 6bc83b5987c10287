"""The derived keys that records imply, computed without a server; ``test_sweep`` shows it on whole
workflows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rwf.repair.expected import SOON, Expected

ID = "0-" + "a" * 16
FIELDS = {
    b":s": b"2,1,5,1000000,500,,name",
    b":c": b"p1a1e1w1r1;7,3,,,2,4,2,1,1,0,,",
    b"#0": b"p,a,e,w,r",
    b"^": b"c,0,,,0,0,0,,,,,0,||0|||p||",
    b">2": b"p|0",
    b":w": b"1",
    b"p": b"p,1,,,0,5,0,,,,,,||0|||||",
    b"a": b"a,0,3,0000000001,0,5,0,,,,,,|q:1000|1|||||",
    b"e": b"e,0,3,,1,5,0,5,,,,,tok:2500:1:w||2|||||",
    b"w": b"w,0,3,,0,5,0,,,,,,||3|||||",
    b"r": b"r,0,3,,1,5,1,5,,,9000,,||4|||||",
    b"~w": b"1,w,10000000000,1500001,,,w,,,call,|go|k",
    b"@1": b"r,3,p,0,3,|\"a\":1",
    b"@2": b"r,3,x,20,,tok|\"a\":1",
}  # fmt: skip


def taken_in(fields: dict[bytes, bytes], group: str = "o") -> Expected:
    expected = Expected()
    expected.workflow(ID, group, dict(fields))
    return expected


def test_all_that_a_workflow_implies() -> None:
    expected = taken_in(FIELDS)
    assert expected.suspects == {}
    assert expected.ready == {f"q:1000|0000000001|{ID}|a".encode(): ID}
    assert expected.timers == {
        f"l|{ID}|e".encode(): (ID, 1002500),
        f"r|{ID}|r".encode(): (ID, 1009000),
        f"u|{ID}".encode(): (ID, SOON),
    }
    assert expected.outbox == {f"{ID}|1".encode(): (ID, 1000003)}
    assert expected.wait_notices == {ID: {b"w": 1501, b"!w": None}}
    assert [one.member for one in expected.registrations] == [f"w|{ID}|10000000000|w|1"]


def test_what_shows_by_itself() -> None:
    for field, text in (
        (b":c", FIELDS[b":c"].replace(b"p1a1", b"p2a0")),  # steps
        (b":c", FIELDS[b":c"].replace(b"2,1,1", b"2,2,1")),  # callbacks
        (b":c", FIELDS[b":c"].replace(b",3,,,", b",3,9,,")),  # an end that does not exist
        (b":c", b"nonsense"),
        (b":s", FIELDS[b":s"].replace(b",5,", b",6,")),  # more steps than exist
        (b"p", FIELDS[b"a"]),
        (b"p", b""),
        (b"~w", b"1,w"),
        (b"@1", b"r,3,d,0,,|"),
    ):
        assert taken_in(FIELDS | {field: text}).suspects == {ID: None}, (field, text)
    assert taken_in(FIELDS, "c").suspects == {ID: None}
    all_ended = {b":s": b"2,1,1,5,,,n", b":c": b"c1;7,3,", b"a": b"c,0,7,,1,5,1,3,7,c,,,||0|||||"}
    assert taken_in(all_ended).suspects == {ID: None}


def test_what_is_gone_or_of_other_semantics_is_passed_over() -> None:
    for fields in ({}, {b":x": b"1"}, FIELDS | {b":s": b"9" + FIELDS[b":s"][1:]}):
        expected = taken_in(fields)
        assert (expected.suspects, expected.timers) == ({}, {})


def test_an_ended_workflow_has_its_removal() -> None:
    fields = {
        b":s": FIELDS[b":s"].replace(b",5,", b",1,"),
        b":c": b"c1;7,3,7,,0,0,1,0,0,0,,",
        b"a": b"c,0,7,,1,5,1,3,7,c,,,||0|||||",
        b"@1": b"t,7,d,1,,tok|completed,completed",
    }
    expected = taken_in(fields, "c")
    assert (expected.suspects, expected.timers) == ({}, {f"x|{ID}".encode(): (ID, 1000507)})
    assert taken_in(fields).suspects == {ID: None}  # among the open ones


def test_timers_are_judged_by_the_servers_time() -> None:
    lease, retry, walk = (f"{kind}{ID}{step}".encode() for kind, step in TIMERS)
    right = {lease: 1002500.0, retry: 1009000.0, walk: 1001000.0}
    for wrong, now, suspected in (
        ({}, 1000500, False),
        ({}, 1001000, True),  # a walk's, which should have fired
        ({walk: 1001501.0}, 1000500, True),
        ({retry: 1008999.0}, 1000500, True),
        ({lease: None}, 1000500, True),
        ({walk: 1004000.0}, 1003499, False),
        ({walk: 1004000.0}, 1003500, True),  # a lease's, a grace time ago
    ):
        expected = taken_in(FIELDS)
        expected.judge_timers({**right, **wrong}, now)
        assert bool(expected.suspects) is suspected, (wrong, now)


TIMERS = (("l|", "|e"), ("r|", "|r"), ("u|", ""))


def test_a_callback_stands_at_its_time() -> None:
    for score, suspected in ((1000003.0, False), (1000004.0, True), (None, True)):
        expected = taken_in(FIELDS)
        expected.judge_outbox({f"{ID}|1".encode(): score})
        assert bool(expected.suspects) is suspected


def test_wait_notices_and_the_timer_that_stands_for_it() -> None:
    for scores, suspected, due in (
        ({b"w": 1501.0, b"!w": None}, False, 1501.0),
        ({b"w": 1501.0, b"!w": 900 - 1e15}, True, 900.0),
        ({b"w": None, b"!w": None}, True, None),
        ({b"w": 1500.0, b"!w": None}, True, 1500.0),
    ):
        expected = taken_in(FIELDS)
        expected.judge_wait_notices(ID, scores)
        assert bool(expected.suspects) is suspected
        entry = expected.timers.get(f"w|{ID}".encode())
        assert (entry and entry.score) == due
    unacked = taken_in(FIELDS | {b"~w": FIELDS[b"~w"].replace(b",,,w,", b",,,,")})
    assert unacked.registrations == []
    unacked.judge_wait_notices(ID, {b"w": 1501.0, b"!w": 900 - 1e15})
    assert unacked.suspects == {}


@given(st.sampled_from(sorted(FIELDS)), st.integers(0, 60), st.binary(max_size=12))
def test_no_record_is_too_broken(field: bytes, place: int, garbage: bytes) -> None:
    text = FIELDS[field]
    expected = taken_in({**FIELDS, field: text[:place] + garbage + text[place + 1 :]})
    scores = dict.fromkeys([*expected.looked_up, *expected.outbox, *expected.ready], 5.0)
    expected.judge_timers(scores, 1000500)
    expected.judge_outbox(scores)
    expected.judge_ready(scores)
