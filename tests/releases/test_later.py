"""The present release and a later one, whose records each have a field more, work on the same data:
in every order of upgrade and back, nothing is lost and nothing cannot be read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from rwf import Client, Workflow
from rwf.protocol import record as language
from rwf.protocol.record import Record
from rwf.protocol.stored import RECORDS
from tests.releases.acts import LIVES
from tests.releases.grown import FRESH, grow
from tests.support import invariants
from tests.support.servers import AnyServer
from tests.support.waiting import until

ROOT: Final = Path(__file__).parent.parent.parent
PRESENT, LATER = "present", "later"

REWRITTEN: Final[Mapping[str, set[str]]] = {
    "ordinary": {"step", "claim", "header", "counts"},
    "dispatched": {"step", "claim", "counts"},
    "wide": {"step", "counts", "row", "traversal"},
    "recovered": {"step", "counts", "session", "traversal", "place"},
    "waits": {"step", "counts", "wait", "topic", "signal", "known"},
    "paused": {"step", "counts", "callback"},
}
"""The records that the present release must have rewritten, in each life."""

GROW: Final = """

for _declared in list(RECORDS.values()):
    globals()[_declared.__name__] = grow(_declared)
"""


@pytest.fixture(scope="module")
def later_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the later release."""
    folder = tmp_path_factory.mktemp("later")
    shutil.copytree(ROOT / "rwf", folder / "rwf")
    shutil.copytree(ROOT / "lua", folder / "lua")
    stored = folder / "rwf/protocol/stored.py"
    _, growing = (ROOT / "tests/releases/grown.py").read_text().split("annotations\n", 1)
    stored.write_text(stored.read_text() + growing + GROW)
    generate = [sys.executable, "-m", "rwf.protocol.generate"]
    subprocess.run(generate, cwd=folder, env=_environment(folder), check=True)
    codec = folder / "lua/lib/codec.lua"
    # Records that it creates have the field's value; records that it has read keep theirs.
    made = codec.read_text().replace('(r.later or "")', f'(r.later or "{FRESH}")')
    codec.write_text(made)
    return folder


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@contextmanager
def player(server: AnyServer, folder: Path) -> Iterator[Callable[..., Any]]:
    """Plays acts with the release in a folder, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.releases.acts", server.url],
        env=_environment(folder),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    requests, replies = process.stdin, process.stdout

    def play(*act: Any) -> Any:
        print(json.dumps(act), file=requests, flush=True)
        return json.loads(replies.readline())

    assert Path(json.loads(replies.readline())).is_relative_to(folder)
    try:
        yield play
    finally:
        process.communicate(timeout=30)
        assert process.returncode == 0


# --- stored records


@pytest.fixture(scope="module")
def grown() -> Mapping[str, Any]:
    """The records of the later release."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "RECORDS", dict(RECORDS))
        return {name: grow(declared) for name, declared in RECORDS.items()}


# The record of each field, by the kind of its key and its name; with a further condition where
# these do not settle it.
FIELDS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "w": {
        ":s": ("header", ""),
        ":c": ("counts", ""),
        ":ack": ("acknowledgement", "recoveries"),
        "~.*": ("wait", "n"),
        "@.*": ("callback", ""),
        ">.*": ("traversal", "origin"),
        "[^:~@>#].*": ("step", ""),
    },
    "p": {
        "r:.*": ("row", ""),
        "v:.*": ("session", ""),
        "a:.*": ("wait", "n"),
        "z:.*": ("pause", "due"),
    },
    "sig": {":": ("topic", ""), r"s\d+": ("signal", ""), "l.*": ("known", "n")},
    "keys": {".*": ("reservation", "workflow")},
}

Found = dict[tuple[Any, ...], tuple[Record, str]]


def found_in(client: Client, grown: Mapping[str, Any]) -> Found:
    """Each stored record by its kind, with its text; raises RecordUnreadable."""
    redis, found = client._store.client(), Found()

    def take(name: str, place: tuple[Any, ...], text: bytes, identity: str = "") -> Any:
        one = grown[name].parse(text)
        found[(name, *place, getattr(one, identity) if identity else "")] = one, text.decode()
        return one

    for key in redis.scan_iter("rwf:*", count=1000):
        kind = key.decode().split(":")[2]
        if kind in ("e", "n", "log"):
            for number, text in enumerate(redis.lrange(key, 0, -1)):
                take("evidence", (key, number), text)
        for pattern, (name, identity) in FIELDS.get(kind, {}).items():
            for field, text in redis.hgetall(key).items():
                if not re.fullmatch(pattern, field.decode()):
                    continue
                one = take(name, (key, field), text, identity)
                if name == "step" and ":" in one.claim:
                    take("claim", (key, field), one.claim.encode(), "token")
                if name == "traversal" and one.origin == "*recover":
                    take("place", (key, field), one.left.encode())
    return found


# --- the test


@pytest.mark.parametrize("life", LIVES)
def test_what_a_later_release_has_appended_outlives_this_one(
    one_server: AnyServer, later_package: Path, grown: Mapping[str, Any], life: str
) -> None:
    rewritten: set[str] = set()
    with (
        Client.from_url(one_server.url, partitions=1) as client,
        player(one_server, ROOT) as present,
        player(one_server, later_package) as later,
    ):
        players = {PRESENT: present, LATER: later}
        for order in product(players, repeat=len(LIVES[life])):
            left, before = "", Found()
            for number, release in enumerate(order):
                left = players[release](life, number, left)
                after = found_in(client, grown)
                if release == PRESENT:
                    rewritten |= _kept(before, after)
                before = after
            assert [look_after("look after", 0, "") for look_after in (later, present)] == [{}, {}]
            _kept(before, found_in(client, grown))
            assert invariants.check(client) == []
            _forget(client)
    assert rewritten >= REWRITTEN[life]


def _forget(client: Client) -> None:
    """Removes all stored data, except the number of partitions."""
    redis = client._store.client()
    redis.delete(*(key for key in redis.scan_iter("rwf:*") if not key.endswith(b":meta")))


def _fresh(found: Found) -> Found:
    return {place: one for place, one in found.items() if one[0].later == FRESH}  # type: ignore[attr-defined]


def _kept(before: Found, after: Found) -> set[str]:
    """The records that were rewritten; each must have kept its appended field."""
    changed = set()
    for place, (_, text) in _fresh(before).items():
        one, now = after.get(place, (None, text))
        if now != text:
            assert one is not None
            assert one.later == FRESH, (place, text, now)  # type: ignore[attr-defined]
            changed.add(place[0])
    return changed


# --- workers


WORKER: Final = """
import sys
from rwf import Client, Worker, Workflow, result

url, name = sys.argv[1:]
worker = Worker(Client.from_url(url), queues=["default"], worker_id=name)
for step in ("a", "b", "c"):
    worker.step(step)(lambda ctx: [ctx.step, ctx.input])
with Client.from_url(url) as client:
    for number in range(20):
        workflow = Workflow(name).add("a", worker="a", input=number)
        workflow.add("b", worker="b", input=result("a"), deps=["a"])
        client.insert(workflow.add("c", worker="c", deps=["b"]), key=f"{name} {number}")
print("up", flush=True)
worker.run()
"""


@contextmanager
def working(server: AnyServer, folder: Path, name: str) -> Iterator[None]:
    """A worker of the release in a folder, which has inserted 20 workflows."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, server.url, name],
        env=_environment(folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_workers_of_both_releases_carry_out_what_either_has_inserted(
    one_server: AnyServer, later_package: Path, grown: Mapping[str, Any]
) -> None:
    with Client.from_url(one_server.url, partitions=1) as client:
        client.insert(Workflow("first").add("a", worker="a"))
        with working(one_server, later_package, LATER), working(one_server, ROOT, PRESENT):
            until(
                lambda: {one.state for one in client.list(limit=100).workflows} == {"completed"},
                timeout=60,
                what="the end of all workflows",
            )
        client.rebuild()
        assert client.rebuild().repairs == {}
        found = _fresh(found_in(client, grown))
        names = Counter(name for name, *_ in found)
        assert names["header"] == 20
        assert names["step"] == 4 * 20  # and the start, of later workflows
        assert 0 < names["row"] < 3 * 41
        assert invariants.check(client) == []
