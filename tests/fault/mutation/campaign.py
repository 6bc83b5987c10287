"""Runs the tests once for each mutant, in one process and on one server.

At first each test runs on traced code, which shows the places that it enters. A mutant is then run
against only those tests that enter its own places, first those that have killed most others. The
first that fails kills it, and so does one that does not end.
"""

from __future__ import annotations

import re
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

from tests.support.servers import Server

# Left out: other servers; and all ways to lose a reply but two: once before the call, once after
# it.
_OTHERS: Final = re.compile(r"redis70|redis82|valkey81|cluster|mid_replyx|(request|reply)x[23]")
# The time limit of a test under a mutant: of this process, which may loop, and in all, as the
# server may loop too.
_LIMITS: Final = (
    (signal.SIGPROF, signal.ITIMER_PROF, 9.0),
    (signal.SIGALRM, signal.ITIMER_REAL, 30.0),
)
_SHORT: Final = 3.0  # a test that takes longer, in this process, is left out


@dataclass(frozen=True)
class Mutant:
    """A file, from the top of the repository, with one change.

    ``change`` shows it as ``git diff --word-diff`` does. It is run against the tests that enter one
    of its ``places``, or against all where there are none.
    """

    file: str
    line: int
    change: str
    text: str
    places: tuple[str, ...]

    @property
    def key(self) -> str:
        """An identity that does not depend on line numbers."""
        return f"{self.file}: {self.change}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.change}"


def changed(file: str, text: str, start: int, end: int, put: str, places: Iterable[str]) -> Mutant:
    """The mutant of a file's text with ``put`` in place of ``start`` to ``end``."""
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end - 1)
    was = f"[-{text[start:end].strip()}-]" if start < end else ""
    now = f"{{+{put.strip()}+}}" if put.strip() else ""
    change = " ".join(f"{text[first:start]}{was}{now}{text[end:last]}".split())
    number = text.count("\n", 0, start) + 1
    return Mutant(file, number, change, text[:start] + put + text[end:], tuple(places))


class TimeIsUp(BaseException):
    """A test under a mutant does not end."""


class Campaign(ABC):
    """A pytest plugin that runs the collected tests once for each mutant of one language."""

    suffix: str
    """The suffix of the language's files."""
    tests: Sequence[str] = (
        *(
            f"tests/contract/test_{name}.py"
            for name in (
                "claims", "leases", "tickets", "claim_next", "completion", "completion_judged",
                "completion_many", "cancel", "recovery", "timers", "signals", "reconcile",
                "results_travel", "evidence", "callbacks", "fairness", "explain", "sweep",
                "metrics", "insert", "listing", "prune", "rebuild", "bad_input", "hints", "events",
            )
        ),
        "tests/fault/test_lost_replies.py",
        "tests/fault/test_lost_operations.py",
        "tests/fault/test_handoffs.py",
        "tests/model/test_commands.py",
    )  # fmt: skip
    """The tests that may notice a mutant."""

    def __init__(self, files: Sequence[str]) -> None:
        self.subjects = [one for file in files for one in self.mutants(file)]
        self.survivors: list[Mutant] = []
        self.ran = 0
        self.server: Server | None = None
        self._kills: Counter[pytest.Item] = Counter()
        self._took: dict[pytest.Item, float] = {}

    @staticmethod
    @abstractmethod
    def mutants(file: str) -> Iterator[Mutant]:
        """Every mutant of a file, from its top to its bottom."""

    @abstractmethod
    def tracing(self) -> AbstractContextManager[None]:
        """Has all running code note the places that it enters."""

    @abstractmethod
    def entered(self) -> Collection[str]:
        """The places entered since this was last asked."""

    @abstractmethod
    def applied(self, mutant: Mutant) -> AbstractContextManager[None]:
        """Has the mutant run in place of the original."""

    def pytest_sessionstart(self) -> None:
        """Makes random tests short."""
        # Not at the top: pytest wants to be the first to import its plugins.
        from hypothesis import settings

        settings.register_profile("mutants", settings.default, max_examples=20)
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keeps tests that need no server, or run on Valkey 9.1."""
        items[:] = [item for item in items if not _OTHERS.search(item.name)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Generator[None, None, None]:
        """Limits the time of a test; its output and its leftovers do not count."""
        self.server = item.funcargs.get("one_server") or item.funcargs.get("server") or self.server
        for sent, timer, seconds in _LIMITS:
            signal.signal(sent, self._give_up)
            signal.setitimer(timer, seconds)
        try:
            yield
        finally:
            for _, timer, _ in _LIMITS:
                signal.setitimer(timer, 0)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        tests = self._tests_by_place(session.items)
        print(f"{len(self._took)} tests, {len(self.subjects)} mutants", flush=True)
        for mutant in self.subjects:
            met = {test for place in mutant.places for test in tests[place]}
            ordered = sorted(
                met if mutant.places else self._took,
                key=lambda item: (-self._kills[item], self._took[item]),
            )
            with self.applied(mutant):
                killer = next((item for item in ordered if not self._passes(item)), None)
            if killer is None:
                self.survivors.append(mutant)
                print(f"survived {len(ordered)} tests: {mutant}", flush=True)
            else:
                self._kills[killer] += 1
            self.ran += 1
            if self.ran % 50 == 0:
                print(f"... {self.ran}, {len(self.survivors)} survive", flush=True)
        return True

    def _tests_by_place(self, items: Sequence[pytest.Item]) -> dict[str, list[pytest.Item]]:
        """The short tests that enter each place; each must pass without a mutant."""
        found: dict[str, list[pytest.Item]] = defaultdict(list)
        with self.tracing():
            for item in items:
                begun = time.process_time()
                passes, places = self._passes(item), self.entered()
                took = time.process_time() - begun
                if took > _SHORT:
                    continue
                if not passes:
                    raise pytest.UsageError(f"{item.nodeid} fails without a mutant")
                self._took[item] = took
                for place in places:
                    found[place].append(item)
        return found

    def _passes(self, item: pytest.Item) -> bool:
        # With the session as the next item, its fixtures stay: the servers.
        session: Any = item.session
        reports = runtestprotocol(item, log=False, nextitem=session)
        return not any(report.failed for report in reports)

    def _give_up(self, *_: object) -> None:
        if self.server is not None and self.server.alive:
            self.server.kill()  # it may be in a loop; the next test starts it anew
        raise TimeIsUp
