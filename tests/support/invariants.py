"""Invariants of a namespace's stored keys at any moment between two server calls.

``check`` reads the raw keys of all partitions, and derives anew everything that the product derives
from records: counts, ready entries, timers, listings, gauges. It shares only the record formats.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from rwf.model.limits import CALLBACK_KEPT_MS, EVIDENCE_KEPT, INSERT_MS
from rwf.protocol.headers import HEADER_FIELDS, Header
from rwf.protocol.keys import PARTITION_SLOTS, key_digest, partition_of
from rwf.protocol.waits import Wait
from tests.support.invariants_flow import Partition, problems_of, text_of
from tests.support.invariants_signals import Child, Topic, Waits

_OWN: Final = re.compile(r"(w|p|e|n|d):(.+)")
_BULK: Final = re.compile(r"(bulk|br):([a-z2-7]{16})")
_REFUSALS_KEPT: Final = 1000
_TOPIC: Final = re.compile(r"(sig|reg):([0-9a-f]{40})")


def check(store: Any, namespace: str = "rwf") -> list[str]:
    """Every breach, one line each; empty when there is none.

    ``store`` is a redis-py client (of a cluster too), or a ``rwf.Client``.
    """
    redis = store if hasattr(store, "scan_iter") else store._store.client()
    return list(_Check(redis, namespace).run())


class _Check:
    def __init__(self, redis: Any, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace
        self._partitions: defaultdict[int, Partition] = defaultdict(Partition)
        self._keyed: dict[str, str] = {}
        self._homes: dict[str, int] = {}
        self._waits: list[Waits] = []
        self._children: list[Child] = []

    def run(self) -> Iterator[str]:
        prefix = re.compile(re.escape(self._namespace) + r":\{(\d+)\}:(.+)", re.DOTALL)
        own: defaultdict[str, set[str]] = defaultdict(set)
        for raw in self._redis.scan_iter(match=f"{self._namespace}:*", count=1000):
            name = text_of(raw)
            match = prefix.fullmatch(name)
            if match is None:
                yield f"{name}: not a key of any class"
                continue
            number, rest = int(match[1]), match[2]
            found = _OWN.fullmatch(rest)
            if found and partition_of(found[2]) == number:
                own[found[2]].add(found[1])
            elif topic := _TOPIC.fullmatch(rest):
                self._homes[topic[2]] = number
            elif rest in PARTITION_SLOTS or rest in ("sweep", "workers", "about"):
                self._partitions[number]  # it exists
            elif number == 0 and (bulk := _BULK.fullmatch(rest)):
                yield from self._bulk_session(bulk[2])
            elif not (rest in ("meta", "daemons", "bulks") and number == 0):
                yield f"{name}: not a key of any class"
        for workflow_id, kinds in own.items():
            yield from self._workflow(workflow_id, kinds)
        yield from self._topics()
        by_id = {waits.workflow_id: waits.waits for waits in self._waits}
        for child in self._children:
            yield from child.problems(by_id)
        yield from self._known_partitions()
        for number in self._partitions:
            yield from self._partition(number)

    def _key(self, partition: int, rest: str) -> str:
        return f"{self._namespace}:{{{partition}}}:{rest}"

    def _known_partitions(self) -> Iterator[str]:
        meta = self._redis.hgetall(self._key(0, "meta"))
        known = int(meta.get(b"partitions", 1))
        for number in self._partitions:
            if number >= known:
                yield f"partition {number} has keys, but there are only {known}"

    def _bulk_session(self, session_id: str) -> Iterator[str]:
        own = self._redis.hgetall(self._key(0, f"bulk:{session_id}"))
        group = "d" if b"done" in own else "o"
        member = f"{group}|{int(own[b'created']):011x}|{session_id}"
        listed = {text_of(one) for one in self._redis.zrange(self._key(0, "bulks"), 0, -1)}
        if {one for one in listed if one.endswith(session_id)} != {member}:
            yield f"bulk session {session_id}: not listed as {member}"
        counted = sum(int(count) for name, count in own.items() if name.startswith(b"c|"))
        hand = own.get(b"hand", b"") if own.get(b"n") != own.get(b"reported") else b""
        in_hand = len(hand.split(b";")) if hand else 0
        refused = sum(
            int(count)
            for name, count in own.items()
            if name.startswith(b"c|") and name not in (b"c|changed", b"c|unchanged")
        )
        kept = self._redis.llen(self._key(0, f"br:{session_id}"))
        if kept != min(refused, _REFUSALS_KEPT):
            yield f"bulk session {session_id}: {kept} refusals of {refused}"
        if counted + in_hand != int(own.get(b"selected", 0)):
            yield f"bulk session {session_id}: {own}"

    # --- one workflow

    def _workflow(self, workflow_id: str, kinds: set[str]) -> Iterator[str]:
        number = int(workflow_id.partition("-")[0])
        own, payload = (
            {text_of(name): value for name, value in self._redis.hgetall(key).items()}
            for key in (self._key(number, f"{kind}:{workflow_id}") for kind in "wp")
        )
        if ":s" not in own:
            yield from self._absent(workflow_id, own, kinds)
            return
        self._partitions[number].flows.add(workflow_id)
        notices = self._redis.zrange(self._key(number, f"d:{workflow_id}"), 0, -1, withscores=True)
        header = Header.stored(*(own.get(field) for field in HEADER_FIELDS))
        assert header is not None
        waits = Waits(
            workflow_id,
            {name[1:]: Wait.parse(text) for name, text in own.items() if name[0] == "~"},
            {text_of(member): int(score) for member, score in notices},
            header.has_news,
        )
        self._waits.append(waits)
        if header.link is not None:
            self._children.append(Child(workflow_id, header))
        if (":w" in own) != bool(waits.waits):
            yield f"{workflow_id}: says that {'some' if ':w' in own else 'no'} step has waited"
        if waits.due is not None:
            self._partitions[number].timers[f"w|{workflow_id}"] = waits.due
        problems = problems_of(workflow_id, own, payload, self._partitions[number], waits)
        yield from (f"{workflow_id}: {problem}" for problem in problems)
        if key := own.get(":k"):
            evidence = self._redis.lrange(self._key(number, f"e:{workflow_id}"), 0, -1)
            # Its key may be handed over to another workflow, once it has ended badly.
            if not any(b"|accepted|key_replaced|" in entry for entry in evidence):
                self._keyed[workflow_id] = text_of(key).rpartition(":")[0]
            if ":key" in own and key_digest(text_of(own[":key"])) != text_of(key).split(":")[1]:
                yield f"{workflow_id}: tells another insert key than its own"
        lengths = [self._redis.llen(self._key(number, f"{kind}:{workflow_id}")) for kind in "en"]
        if sum(lengths) > EVIDENCE_KEPT:
            yield f"{workflow_id}: {sum(lengths)} entries of evidence"

    def _absent(self, workflow_id: str, own: dict[str, bytes], kinds: set[str]) -> Iterator[str]:
        """Keys of no visible workflow: of an insert, or of a workflow that is being or was
        removed."""
        partition = self._partitions[int(workflow_id.partition("-")[0])]
        unusable = text_of(own.get(":x", b""))
        if "," in unusable:
            partition.undated.add(f"x|{workflow_id}")
            partition.flows.add(workflow_id)
            return
        if kinds & {"e", "n", "d"}:
            yield f"{workflow_id}: keys of a workflow that does not exist"
        left_ms = self._redis.pttl(
            self._key(int(workflow_id.partition("-")[0]), f"w:{workflow_id}")
        )
        if not (unusable and len(own) == 1 and kinds == {"w"} and 0 < left_ms <= INSERT_MS):
            partition.staged.add(workflow_id)

    # --- topics

    def _topics(self) -> Iterator[str]:
        topics: dict[str, Topic] = {}
        for digest, number in self._homes.items():
            own = self._redis.hgetall(self._key(number, f"sig:{digest}"))
            registered = self._redis.zrange(self._key(number, f"reg:{digest}"), 0, -1)
            topics[digest] = Topic(
                {text_of(name): text_of(value) for name, value in own.items()},
                frozenset(text_of(member) for member in registered),
            )
            yield from (f"topic {digest}: {problem}" for problem in topics[digest].problems())
            flows = {flow for partition in self._partitions.values() for flow in partition.flows}
            if gone := topics[digest].workflows - flows:
                yield f"topic {digest}: knows of workflows that are gone: {sorted(gone)[:3]}"
            if topics[digest].handed:
                self._partitions[number].undated.add(f"s|{digest}")
            elif (due := topics[digest].due) is not None:
                self._partitions[number].timers[f"s|{digest}"] = due
        for waits in self._waits:
            yield from waits.unknown_to(topics)

    # --- one partition's derived keys

    def _partition(self, number: int) -> Iterator[str]:
        expected = self._partitions[number]
        ready = dict(self._redis.zrange(self._key(number, "ready"), 0, -1, withscores=True))
        reserved = self._redis.zrange(self._key(number, "reserved"), 0, -1)
        entries = Counter(text_of(member) for member in (*ready, *reserved))
        yield from _compare(f"ready of {number}", expected.ready, set(entries))
        if twice := [entry for entry, count in entries.items() if count > 1]:
            yield f"ready of {number}: reserved as well: {twice}"
        if any(ready.values()):
            yield f"ready of {number}: scores that are not equal"
        yield from self._timers(number, expected)
        outbox = self._redis.zrange(self._key(number, "outbox"), 0, -1, withscores=True)
        found = {(text_of(member), int(score)) for member, score in outbox}
        yield from _compare(f"outbox of {number}", set(expected.outbox.items()), found)
        index = {
            text_of(member) for member in self._redis.zrange(self._key(number, "index"), 0, -1)
        }
        yield from _compare(f"index of {number}", expected.index, index)
        tags = dict(self._redis.zrange(self._key(number, "tags"), 0, -1, withscores=True))
        yield from _compare(f"tags of {number}", expected.tags, set(map(text_of, tags)))
        if any(tags.values()):
            yield f"tags of {number}: scores that are not equal"
        stats = {
            text_of(name): int(value)
            for name, value in self._redis.hgetall(self._key(number, "stats")).items()
        }
        gauges = {
            name: value
            for name, value in stats.items()
            if name[:3] in ("gs|", "gw|", "gc|", "gt|") and value
        }
        yield from _compare(
            f"gauges of {number}", set(expected.gauges.items()), set(gauges.items())
        )
        if negative := [name for name, value in stats.items() if value < 0]:
            yield f"stats of {number}: below zero: {negative}"
        if self._redis.llen(self._key(number, "log")) > EVIDENCE_KEPT:
            yield f"log of {number}: too long"
        yield from self._insert_keys(number)

    def _timers(self, number: int, expected: Partition) -> Iterator[str]:
        found = {
            text_of(member): int(score)
            for member, score in self._redis.zrange(
                self._key(number, "timers"), 0, -1, withscores=True
            )
        }
        for member in expected.held_back & set(found):
            if found[member] == expected.timers[member] + CALLBACK_KEPT_MS:
                expected.timers[member] = found[member]
        yield from _compare(
            f"timers of {number}", expected.undated | set(expected.timers), set(found)
        )
        others = {(member, due) for member, due in found.items() if member not in expected.undated}
        yield from _compare(f"timers of {number}", set(expected.timers.items()), others)
        inserts = {
            text_of(member) for member in self._redis.zrange(self._key(number, "staged"), 0, -1)
        }
        for workflow_id in expected.staged - inserts:
            yield f"{workflow_id}: staged, and nothing would give it up"
        for workflow_id in expected.flows & inserts:
            yield f"{workflow_id}: visible, and still listed as staged"

    def _insert_keys(self, number: int) -> Iterator[str]:
        held = {
            f"{number}:{text_of(digest)}": text_of(value).split(" ")[0]
            for digest, value in self._redis.hgetall(self._key(number, "keys")).items()
        }
        for workflow_id, keyed in self._keyed.items():
            if keyed.startswith(f"{number}:") and held.get(keyed) != workflow_id:
                yield f"{workflow_id}: its insert key belongs to {held.get(keyed)}"


def _compare(what: str, expected: set[Any], found: set[Any]) -> Iterator[str]:
    for word, items in (("missing", expected - found), ("too many", found - expected)):
        if items:
            yield f"{what}: {len(items)} {word}, such as {sorted(items)[:3]}"
