"""Key names and ids as literal text: a release that builds others does not find what is stored."""

from __future__ import annotations

import pytest

from rwf.protocol import keys
from rwf.protocol.keys import Keys

DIGEST = "4e1243bd22c66e76c2ba9eddc1f91394e57f9f83"


def test_the_keys_of_a_namespace() -> None:
    own = Keys("ns")
    assert (own.partitions, own.home_partitions) == (0, 0)
    own.home_partitions = 8
    assert own.meta() == "ns:{0}:meta"
    assert own.daemons() == "ns:{0}:daemons"
    assert (own.sweep(3), own.events(3)) == ("ns:{3}:sweep", "ns:{3}:events")
    partition = [
        f"ns:{{3}}:{name}"
        for name in (
            "ready", "timers", "index", "stats", "log", "keys", "staged", "outbox", "reserved",
            "served",
            "tags",
        )
    ]  # fmt: skip
    assert own.partition(3) == partition
    assert own.stats_beside("ns:{12}:w:12-x") == "ns:{12}:stats"
    assert own.workflow("12-x") == [f"ns:{{12}}:{kind}:12-x" for kind in "wpend"]
    assert own.record("12-x") == "ns:{12}:w:12-x"
    assert own.wait_notices("12-x") == "ns:{12}:d:12-x"
    assert own.derived(3, "timers") == "ns:{3}:timers"
    assert own.topic(DIGEST) == [
        *own.partition(5),
        f"ns:{{5}}:sig:{DIGEST}",
        f"ns:{{5}}:reg:{DIGEST}",
    ]
    assert own.topics(3, ["x", "y"])[len(partition) :] == [
        "ns:{3}:sig:x",
        "ns:{3}:reg:x",
        "ns:{3}:sig:y",
        "ns:{3}:reg:y",
    ]


def test_digests() -> None:
    assert keys.key_digest("key") == "2c70e12b7a0646f92279f427c7b38e7334d8e538"
    assert keys.topic_digest("go", "k") == keys.key_digest("go\0k")
    assert keys.home_partition(DIGEST, 8) == 0x4E1243BD % 8
    assert keys.home_partition("00000009" + "0" * 32, 8) == 1
    assert keys.is_digest(DIGEST, 0x4E1243BD % 8, 8)
    assert not keys.is_digest(DIGEST, 0x4E1243BD % 8 + 1, 8)
    assert not keys.is_digest(DIGEST[1:], 0, 1)


def test_ids_carry_their_partition() -> None:
    made = keys.new_workflow_id(12)
    assert keys.partition_of(made) == 12
    assert made != keys.new_workflow_id(12)
    assert len(made) == len("12-") + 16


@pytest.mark.parametrize(
    ("text", "partition"),
    [
        ("0-" + "a" * 16, 0),
        ("65535-abcdefghij234567", 65_535),
        ("00-" + "a" * 16, None),
        ("-" + "a" * 16, None),
        ("0-" + "a" * 15, None),
        ("0-" + "a" * 17, None),
        ("0-" + "A" * 16, None),
        ("100000-" + "a" * 16, None),
        ("", None),
    ],
)
def test_what_is_an_id(text: str, partition: int | None) -> None:
    assert keys.partition_of(text) == partition


@pytest.mark.parametrize(
    ("text", "legal"),
    [("rwf", True), ("a.b_c-9", True), ("x" * 64, True), ("x" * 65, False), ("", False),
     ("a:b", False), ("{a}", False), ("a\n", False)],
)  # fmt: skip
def test_what_is_a_namespace(text: str, legal: bool) -> None:
    assert keys.is_namespace(text) is legal
