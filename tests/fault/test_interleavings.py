"""All schedules of two workers, a canceller and a reconciler on all small graphs.

``make test-long`` adds all graphs of three steps and of four, of which a slice takes every
fiftieth. ``pytest -s`` shows how far it is.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from rwf.protocol import library as assembled
from tests.conftest import SCALE, connect
from tests.fault.interleavings import (
    GROWING,
    OUTCOMES,
    SKIPPING,
    Explorer,
    Program,
    appender,
    branching_graphs,
    canceller,
    executor,
    graphs,
    reconciler,
    worker,
)
from tests.model.plain import Definition
from tests.support.servers import AnyServer

WORKERS_AND_CANCELLER: tuple[Program, ...] = (worker, worker, canceller)
EVERYBODY: tuple[Program, ...] = (*WORKERS_AND_CANCELLER, reconciler)


def explore(
    server: AnyServer,
    definitions: Sequence[Definition],
    programs: tuple[Program, ...],
    *,
    exact: bool = True,
    outcomes: tuple[str, ...] = OUTCOMES,
) -> Counter[str]:
    """Explores these graphs. Returns how many states, calls and schedules there were."""
    found: Counter[str] = Counter()
    begun = time.monotonic()
    for number, definition in enumerate(definitions, 1):
        server.flush()
        with connect(server) as client:
            explorer = Explorer(client, definition, programs, exact, outcomes)
            found["schedules"] += explorer.run()
        found["states"] += explorer.states
        found["calls"] += explorer.calls
        seconds = time.monotonic() - begun
        print(f"{number} of {len(definitions)} graphs, {dict(found)}, {seconds:.0f} s", flush=True)
    return found


def test_two_workers_and_a_canceller(one_server: AnyServer) -> None:
    """The number of schedules is the same on every machine."""
    found = explore(one_server, [*graphs(1), *graphs(2)], WORKERS_AND_CANCELLER)
    assert (found["states"], found["schedules"]) == (128, 376)


def test_a_reconciler_beside_them(one_server: AnyServer) -> None:
    found = explore(one_server, [*graphs(1), *graphs(2)], EVERYBODY)
    assert (found["states"], found["schedules"]) == (512, 38864)


def test_a_ticket_that_is_delivered_twice_beside_a_worker_and_a_canceller(
    one_server: AnyServer,
) -> None:
    explore(one_server, [*graphs(1), *graphs(2)], (executor, worker, canceller))


def test_failures_that_are_waited_for_and_branches_that_are_skipped(
    one_server: AnyServer,
) -> None:
    """Two workers, who may also skip a step or its branch."""
    chosen = [*branching_graphs(2), *branching_graphs(3)[:: 1 if SCALE == "long" else 4]]
    explore(one_server, chosen, (worker, worker), outcomes=SKIPPING)


def test_branches_that_are_skipped_beside_a_canceller(
    one_server: AnyServer,
) -> None:
    programs = (worker, worker, canceller)
    explore(one_server, branching_graphs(2), programs, exact=False, outcomes=SKIPPING)


def test_finalizers_beside_a_canceller(one_server: AnyServer) -> None:
    """They run once, after their parents, whenever the request comes."""
    programs = (worker, worker, canceller)
    chosen = [*branching_graphs(2, always=True), *branching_graphs(3, always=True)[-2:]]
    explore(one_server, chosen, programs, exact=False)


def test_skips_in_slices(
    one_server: AnyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With so few edges per call that others find a skipped branch half walked."""
    chosen = branching_graphs(3)[-1:]
    with_edges_per_call(most_edges(chosen), monkeypatch, tmp_path)
    explore(one_server, chosen, (worker, worker), exact=False, outcomes=SKIPPING)


def growing(size: int) -> list[Definition]:
    """The graphs whose steps may append others: all of them in the long tests, else those whose
    steps have edges."""
    return [one for one in graphs(size) if SCALE == "long" or size == 1 or one["edges"]]


def test_steps_that_append_others(one_server: AnyServer) -> None:
    """Who waits for a step waits for the steps that it has appended, whoever fails or cancels
    when."""
    explore(one_server, [*growing(1), *growing(2)], WORKERS_AND_CANCELLER, outcomes=GROWING)


def test_an_append_from_outside(one_server: AnyServer) -> None:
    explore(one_server, graphs(1), (worker, canceller, appender), outcomes=GROWING)
    explore(one_server, growing(2)[:1], (worker, appender), outcomes=GROWING)


@pytest.mark.long
@pytest.mark.whole
def test_appends_on_all_graphs(one_server: AnyServer) -> None:
    chosen = graphs(3)[:: 1 if SCALE == "long" else 10]
    explore(one_server, chosen, (worker, worker), outcomes=GROWING)
    explore(one_server, chosen, (worker, appender), outcomes=GROWING)
    explore(one_server, graphs(2), (worker, canceller, appender), outcomes=GROWING)


@pytest.mark.parametrize("edges", ["chain", pytest.param("join", marks=pytest.mark.long)])
def test_releases_in_slices(
    one_server: AnyServer, edges: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With so few edges per call that others find a release half done."""
    pairs = {"chain": [("s0", "s1"), ("s1", "s2")], "join": [("s0", "s2"), ("s1", "s2")]}[edges]
    chosen = [
        one
        for one in graphs(3)
        if [(edge["parent"], edge["child"]) for edge in one["edges"]] == pairs
    ]
    assert chosen
    with_edges_per_call(most_edges(chosen), monkeypatch, tmp_path)
    explore(one_server, chosen, WORKERS_AND_CANCELLER, exact=False)


@pytest.mark.long
@pytest.mark.whole
@pytest.mark.parametrize("size", [3, 4])
def test_all_graphs(one_server: AnyServer, size: int) -> None:
    chosen = graphs(size)[:: 50 if size == 4 and SCALE != "long" else 1]
    explore(one_server, chosen, EVERYBODY)


def most_edges(definitions: Sequence[Definition]) -> int:
    """The number of edges that a call must be able to walk: all that leave one step, or the
    start."""
    most = 0
    for definition in definitions:
        children = Counter(edge["parent"] for edge in definition["edges"])
        roots = len(definition["steps"]) - len({edge["child"] for edge in definition["edges"]})
        most = max(most, roots, *children.values())
    return most


def with_edges_per_call(number: int, patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has clients from now on use a library that walks this many edges per call."""
    copy = folder / "lua"
    shutil.copytree(assembled.lua_folder(), copy)
    states = copy / "lib" / "states.lua"
    text = states.read_text()
    changed = text.replace("M.EDGES_PER_CALL = 200\n", f"M.EDGES_PER_CALL = {number}\n")
    assert changed != text
    states.write_text(changed)
    patch.setattr(assembled, "lua_folder", lambda: copy)
    patch.setattr("rwf.transport.session.library", assembled.library.__wrapped__)
