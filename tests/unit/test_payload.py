"""Values as JSON bytes: which are accepted, which are refused, and where in the value."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwf.errors import WorkflowInvalid
from rwf.model.conditions import result
from rwf.model.payload import decode, encode
from rwf.model.references import AnyRef, Ref

LIMIT = 262_144


def refused(value: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(WorkflowInvalid) as caught:
        encode(value, **{"path": "$", "max_bytes": LIMIT, **options})
    return caught.value.code, caught.value.details["path"]


def nested(depth: int, inner: Any = None) -> Any:
    value = [] if inner is None else [inner]
    for _ in range(depth - 1):
        value = [value]
    return value


class Text(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


class StrChild(str):
    pass


class IntChild(int):
    pass


class ListChild(list[Any]):
    pass


@dataclasses.dataclass
class Record:
    x: int = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"null"),
        (True, b"true"),
        ([], b"[]"),
        ({}, b"{}"),
        ("", b'""'),
        (0, b"0"),
        (2**53 + 1, b"9007199254740993"),
        (2**64 - 1, b"18446744073709551615"),
        (-(2**63), b"-9223372036854775808"),
        (1.0, b"1.0"),
        ({"b": 1, "a": [1, 2.5, None, False]}, b'{"b":1,"a":[1,2.5,null,false]}'),
        ("\u00e9\U0001f600", b'"\xc3\xa9\xf0\x9f\x98\x80"'),
        ({"$other": 1, "result": 2}, b'{"$other":1,"result":2}'),
        ({"\u00e9": 1}, b'{"\xc3\xa9":1}'),
    ],
)
def test_writes_compact_json_in_insertion_order(value: Any, expected: bytes) -> None:
    assert encode(value, path="$", max_bytes=LIMIT) == expected


@pytest.mark.parametrize(
    "value",
    [
        (1,),
        {1},
        b"x",
        bytearray(b"x"),
        Text.A,
        Number.ONE,
        StrChild("x"),
        IntChild(1),
        ListChild(),
        OrderedDict(),
        Record(),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        datetime.date(2026, 1, 1),
        uuid.UUID(int=1),
        decimal.Decimal(1),
        object(),
        print,
        Ref("a"),
        math.nan,
        math.inf,
        -math.inf,
        2**64,
        -(2**63) - 1,
        10**5000,
        "\ud800",
        "a\udfffb",
    ],
    ids=lambda value: type(value).__name__,
)
def test_refuses_what_json_cannot_hold_exactly(value: Any) -> None:
    assert refused(value) == ("non_serializable_payload", "$")
    assert refused({"a": [0, value]}) == ("non_serializable_payload", "$.a[1]")


def test_refuses_other_types_where_references_may_stand() -> None:
    assert refused([result("a"), (1,)], refs=[]) == ("non_serializable_payload", "$[1]")


@pytest.mark.parametrize(
    "key", [1, None, True, 1.5, (1,), Text.A, StrChild("x"), b"x"], ids=lambda key: repr(key)
)
def test_refuses_keys_that_are_not_text(key: Any) -> None:
    assert refused({"a": {key: 1}}) == ("non_serializable_payload", "$.a")


def test_refuses_a_surrogate_in_a_key_and_names_it_escaped() -> None:
    code, path = refused({"a": {"\ud800": 1}})
    assert (code, path) == ("non_serializable_payload", r"$.a['\ud800']")
    path.encode()


def test_says_where_the_first_fault_is() -> None:
    value = {"ok": [{}, []], "a": [0, [], {"b": [{"x y": {1}}]}], "later": math.nan}
    assert refused(value) == ("non_serializable_payload", "$.a[2].b[0]['x y']")
    assert refused([math.nan], path="$.steps[3].input") == (
        "non_serializable_payload",
        "$.steps[3].input[0]",
    )


def test_after_a_container_the_path_is_that_of_its_neighbour() -> None:
    assert refused({"a": {"b": {"c": []}}, "d": [[], math.inf]}) == (
        "non_serializable_payload",
        "$.d[1]",
    )


def test_cuts_paths_with_huge_keys() -> None:
    value: Any = math.nan
    for _ in range(50):
        value = {"k" * 100_000: value}
    code, path = refused(value, max_bytes=10**8)
    assert code == "non_serializable_payload"
    assert path.startswith("$['kkk")
    assert len(path) < 500


def test_cuts_paths_of_more_than_400_characters() -> None:
    whole = "p" * 398
    assert refused({"k": math.nan}, path=whole)[1] == f"{whole}.k"
    assert refused({"kk": math.nan}, path=whole)[1] == f"{'p' * 200}...{'p' * 197}.kk"


def test_never_runs_a_value_s_own_repr() -> None:
    class Loud:
        def __repr__(self) -> str:
            raise AssertionError

    assert refused({"a": Loud()}) == ("non_serializable_payload", "$.a")


def test_takes_200_levels_and_no_more() -> None:
    assert encode(nested(200), path="$", max_bytes=LIMIT) == b"[" * 200 + b"]" * 200
    assert decode(encode(nested(200, "x"), path="$", max_bytes=LIMIT)) == nested(200, "x")
    code, path = refused(nested(201))
    assert code == "non_serializable_payload"
    assert path.startswith("$[0][0]")
    assert len(path) < 500


def test_a_reference_is_a_level() -> None:
    encode(nested(199, result("a")), path="$", max_bytes=LIMIT, refs=[])
    assert refused(nested(200, result("a")), refs=[])[0] == "non_serializable_payload"
    stored = {"$result": "a"}
    encode(nested(199, stored), path="$", max_bytes=LIMIT, refs=[], ref_objects=True)
    code, _ = refused(nested(200, stored), refs=[], ref_objects=True)
    assert code == "non_serializable_payload"


def test_refuses_deep_data_that_would_exhaust_the_stack() -> None:
    assert refused(nested(100_000))[0] == "non_serializable_payload"


def test_refuses_cycles() -> None:
    loop: list[Any] = []
    loop.extend([loop, loop, loop])
    assert refused(loop)[0] == "non_serializable_payload"
    table: dict[str, Any] = {"n": 1}
    table["self"] = {"again": table}
    assert refused(table)[0] == "non_serializable_payload"


@pytest.mark.parametrize(
    "innermost", [[], {}, [None], {"k": 1}, ["x"], {"key" * 100_000: 0}], ids=lambda v: repr(v)[:9]
)
def test_data_that_shares_its_parts_is_too_large_before_it_is_all_walked(innermost: Any) -> None:
    value = innermost
    for _ in range(150):  # written out, 2**150 times the innermost
        value = [value, value]
    assert refused(value) == ("payload_too_large", "$")


def test_shared_references_count_too() -> None:
    row = [result("s" * 128, "p" * 1000)] * 1000
    refs: list[AnyRef] = []
    assert refused([row] * 1000, refs=refs) == ("payload_too_large", "$")
    assert len(refs) < 300


@pytest.mark.parametrize(
    ("value", "size"),
    [
        # Twice the items of each container, the texts, and for a reference the size of the result.
        ([["x"] * 10, "y" * 50, []], 6 + 20 + 10 + 50),
        ([{"k" * 30: 1, "\u00e9" * 20: "xyz"}, []], 4 + 4 + 50 + 3),
        ([[result("step", "path.to")] * 3, []], 4 + 6 + 3 * (7 + 4 + 7)),
        ([[result("a" * 30)], []], 4 + 2 + 7 + 30),
    ],
)
def test_what_has_been_walked_is_a_lower_bound(value: Any, size: int) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        encode(value, path="$", max_bytes=size - 1, refs=[])
    assert caught.value.details == {"path": "$", "bytes": size, "limit": size - 1}


@pytest.mark.parametrize("depth", [1, 3])
def test_the_limit_is_exact(depth: int) -> None:
    value = nested(depth, "x" * 100)
    size = len(json.dumps(value))
    assert len(encode(value, path="$", max_bytes=size)) == size
    with pytest.raises(WorkflowInvalid) as caught:
        encode(value, path="$.in", max_bytes=size - 1)
    assert caught.value.code == "payload_too_large"
    assert caught.value.details == {"path": "$.in", "bytes": size, "limit": size - 1}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"$result": "a"}, "$['$result']"),
        ({"x": [{"y": 1, "$result": None}]}, "$.x[0]['$result']"),
    ],
)
def test_reserves_the_key_of_references(value: Any, path: str) -> None:
    assert refused(value) == ("reserved_key", path)
    assert refused(value, refs=[])[0] == "reserved_key"


def test_collects_references_at_any_depth() -> None:
    refs: list[AnyRef] = []
    value = {"a": [result("one"), {"b": result("two", "x.y")}], "c": result("one")}
    encoded = encode(value, path="$", max_bytes=LIMIT, refs=refs)
    assert encoded == (
        b'{"a":[{"$result":"one"},{"b":{"$result":"two","path":"x.y"}}],"c":{"$result":"one"}}'
    )
    assert refs == [Ref("one"), Ref("two", "x.y"), Ref("one")]
    read: list[AnyRef] = []
    again = encode(decode(encoded), path="$", max_bytes=LIMIT, refs=read, ref_objects=True)
    assert (again, read) == (encoded, refs)


def test_a_reference_may_be_all_of_the_value() -> None:
    refs: list[AnyRef] = []
    encoded = encode(result("a"), path="$", max_bytes=LIMIT, refs=refs)
    assert (encoded, refs) == (b'{"$result":"a"}', [Ref("a")])


@pytest.mark.parametrize(
    "value",
    [
        {"$result": 1},
        {"$result": None},
        {"$result": "a", "path": None},
        {"$result": "a", "path": 1},
        {"$result": "a", "other": 1},
        {"$result": "a", "path": "b", "other": 1},
        {"$result": {"$result": "a"}},
    ],
)
def test_what_only_resembles_a_reference_is_reserved(value: Any) -> None:
    assert refused({"k": value}, refs=[], ref_objects=True) == ("reserved_key", "$.k['$result']")


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "x" * 1025, "\ud800", 1])
def test_a_reference_needs_a_sound_path(path: Any) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        result("a", path)
    assert caught.value.code == "invalid_step_definition"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("step", ["", "a b", "a\n", "x" * 129, None, 1])
def test_a_reference_needs_a_sound_name(step: Any) -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        result(step)
    assert caught.value.code == "invalid_name"


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text().filter(lambda key: key != "$result"), inner, max_size=4)
    ),
    max_leaves=20,
)


def typed(value: Any) -> Any:
    """The value with each type beside it, so that 1, 1.0 and True differ, and key order counts."""
    if isinstance(value, dict):
        return "dict", [(key, typed(item)) for key, item in value.items()]
    if isinstance(value, list):
        return "list", [typed(item) for item in value]
    return type(value).__name__, repr(value)


@given(values)
def test_what_goes_in_comes_out(value: Any) -> None:
    encoded = encode(value, path="$", max_bytes=LIMIT)
    assert typed(decode(encoded)) == typed(value)
    assert typed(json.loads(encoded)) == typed(value)


@given(values, st.sampled_from([math.nan, 2**64, "\udc00", (), Text.A]), st.integers(0, 5))
def test_a_fault_is_found_wherever_it_hides(value: Any, fault: Any, depth: int) -> None:
    hidden = [value, fault, value]
    for _ in range(depth):
        hidden = [value, hidden]
    path = "$" + "[1]" * (depth + 1)
    assert refused(hidden) == ("non_serializable_payload", path)


@given(values, st.integers(0, 60))
def test_size_is_judged_by_the_bytes_alone(value: Any, limit: int) -> None:
    size = len(encode(value, path="$", max_bytes=LIMIT))
    assert len(encode(value, path="$", max_bytes=size)) == size
    if size <= limit:
        assert len(encode(value, path="$", max_bytes=limit)) == size
    else:
        assert refused(value, max_bytes=limit) == ("payload_too_large", "$")
