"""Declared server functions: how arguments are sent, and how replies are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from rwf.protocol.declare import (
    FUNCTIONS,
    Item,
    Refusal,
    ServerFunction,
    decoder_of,
    item,
    server_function,
)


class Answer(NamedTuple):
    outcome: str
    number: int | None
    payload: bytes | None = None
    known: bool = False


@item(packed=3)
class Thing(Item):
    slot: int
    late_ms: int | None
    forced: bool
    payload: bytes | None


def test_arguments_are_sent_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwf.protocol.declare.FUNCTIONS", dict(FUNCTIONS))

    @server_function("sent")
    class Sent(ServerFunction[list[Answer | Refusal]]):
        names: Sequence[str]
        things: Sequence[Thing]

    things = [Thing(1, None, True, b"1"), Thing(2, 30, False, None)]
    call = Sent(["a", "b"], things)
    assert call.arguments() == [2, "a", "b", "1,,1", b"1", "2,30,", ""]
    assert Sent.decoded([[b"accepted", b"5"], [b"rejected", b"why", b"17", b"so"]]) == [
        Answer("accepted", 5),
        Refusal("rejected", "why", "17", "so"),
    ]


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ([b"accepted"], None),
        ([b"accepted", None], Answer("accepted", None)),
        ([b"accepted", b"", None, b"1"], Answer("accepted", None, None, True)),
        ([b"accepted", 3, b"x", b"", b"of a later release"], Answer("accepted", 3, b"x")),
    ],
)
def test_a_reply_may_be_shorter_or_longer(raw: list[object], answer: Answer | None) -> None:
    if answer is None:
        with pytest.raises(TypeError):
            decoder_of(Answer)(raw)
    else:
        assert decoder_of(Answer)(raw) == answer


def test_an_item_has_several_fields() -> None:
    with pytest.raises(TypeError, match="a list of its values will do"):

        @item()
        class Alone(Item):
            name: str


@item(packed=1)
class PackedBytes(Item):
    payload: bytes
    slot: int


@pytest.mark.parametrize("hint", [float, Sequence[float], Sequence[PackedBytes]])
def test_what_cannot_be_sent_is_refused_when_it_is_declared(hint: object) -> None:
    class Unsendable(ServerFunction[None]):
        pass

    Unsendable.__annotations__["value"] = hint
    with pytest.raises(TypeError, match="cannot be"):
        server_function("unsendable")(Unsendable)


def test_what_cannot_be_decoded_is_refused_when_it_is_declared() -> None:
    class Undecodable(ServerFunction[list[float]]):
        pass

    with pytest.raises(TypeError, match="cannot be decoded"):
        server_function("undecodable")(Undecodable)


class Nested(NamedTuple):
    first: Answer | None
    others: list[Answer | None]
    refused: list[Answer | Refusal]
    flags: list[bool]
    number: int = 7


def test_replies_in_replies_are_decoded_whether_they_are_there_or_not() -> None:
    refusal = [b"rejected", b"why", b"17", b"so", b""]
    raw = [None, [[b"a", 1], None], [[b"b", b"2"], refusal], [1, None]]
    assert decoder_of(Nested)(raw) == Nested(
        None,
        [Answer("a", 1), None],
        [Answer("b", 2), Refusal("rejected", "why", "17", "so")],
        [True, False],
    )
    assert decoder_of(Nested | None)(None) is None
    # A server answers an empty list as nil.
    assert decoder_of(Nested)([None, None, None, []]) == Nested(None, [], [], [])


@pytest.mark.parametrize("raw", [None, 5, [None], [None, 5, [], []], [b"no", [], [], []]])
def test_what_is_no_reply_is_refused(raw: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        decoder_of(Nested)(raw)
