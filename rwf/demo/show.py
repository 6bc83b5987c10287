"""The demo itself: insert, let processes work, kill one of each kind, compare."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from pydantic import BaseModel, ConfigDict

from rwf import Client
from rwf.demo import expected
from rwf.demo.expected import SKIPPED
from rwf.demo.ledger import Ledger
from rwf.demo.process import LEASE, address_path, console_path, worker_id
from rwf.demo.processes import Processes
from rwf.demo.screen import Screen
from rwf.demo.source import DemoFailed, Sync
from rwf.demo.work import source_path
from rwf.embedded import EmbeddedServer
from rwf.model.states import TERMINAL_STEPS, EdgePolicy, OperatorStatus, StepCause, StepState
from rwf.model.views import StepExplanation, StepView, WorkflowView

_WORKERS: Final = 2
_TICK_SECONDS: Final = 0.1
_STALL_SECONDS: Final = 60.0
_BAR_WIDTH: Final = 30
# At which share of the steps what happens.
_KILL_WORKER_AT: Final = 0.25
_KILL_DAEMON_AT: Final = 0.45
_KILL_SERVER_AT: Final = 0.6
_EXPLAIN_ANY_AT: Final = 0.4

_ENDS: Final = {*TERMINAL_STEPS, SKIPPED}

Describe = Callable[[StepExplanation], Iterable[str]]


class Summary(BaseModel):
    """How the demo ended. ``appended`` counts the steps that others have appended, ``undone`` the
    compensations that ran, ``duplicates`` and ``refused`` reports that changed nothing,
    ``repairs`` the daemons' repairs, by kind."""

    model_config = ConfigDict(frozen=True)

    workflows: dict[str, int]
    steps: dict[str, int]
    appended: int
    undone: int
    retries: int
    leases_expired: int
    repairs: dict[str, int]
    duplicates: int
    refused: int
    ledger_lines: int
    workers_killed: int
    daemons_killed: int
    servers_killed: int
    seconds: float
    differences: tuple[str, ...]


class Demo:
    """One run in a folder, with a server of its own there."""

    def __init__(
        self,
        *,
        syncs: Sequence[Sync],
        folder: Path,
        url: str,
        namespace: str,
        screen: Screen,
        describe: Describe,
        console: bool = False,
    ) -> None:
        self._syncs = {sync.key: sync for sync in syncs}
        self._folder = folder
        self._url = url
        self._namespace = namespace
        self._screen = screen
        self._describe = describe
        self._console = console
        self._server = EmbeddedServer(folder)
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._processes = Processes(url, namespace, folder)
        self._ids: dict[str, str] = {}
        self._steps: dict[str, list[StepView]] = {}
        self._told: set[str] = set()
        self._workers_killed = 0
        self._daemons_killed = 0
        self._servers_killed = 0

    def run(self, then: Callable[[Summary], None]) -> None:
        """Runs to the end, compares, and calls ``then``: with a console while everything still
        runs. Leaves no process behind, whatever happens.

        Raises DemoFailed when it cannot go on, and what the client raises.
        """
        started = time.monotonic()
        self._prepare()
        with self._server, Client.from_url(self._url, namespace=self._namespace) as client:
            pid = self._server.pid
            self._screen.tell(f"Valkey runs as process {pid}, with its append-only file on")
            self._insert(client)
            try:
                if self._console:
                    self._start_console()
                self._work(client)
                repairs = self._repairs()
                if not self._console:
                    self._processes.stop()
                then(self._summary(client, time.monotonic() - started, repairs))
            finally:
                self._processes.stop()

    def _prepare(self) -> None:
        for name in ("customers", "work", "processes"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        for sync in self._syncs.values():
            path = source_path(self._folder, sync.context.account_id)
            path.write_text(sync.context.customer.model_dump_json())

    def _insert(self, client: Client) -> None:
        views = {key: client.insert(sync.workflow, key=key) for key, sync in self._syncs.items()}
        self._ids = {key: view.id for key, view in views.items()}
        (self._folder / "workflows.json").write_text(json.dumps([*self._ids.values()]))
        old = sum(view.duplicate for view in views.values())
        steps = sum(view.step_count for view in views.values())
        before = f"; {old} were there from an earlier run, by their keys" if old else ""
        self._screen.tell(f"inserted {len(views)} workflows with {steps} steps{before}")

    # --- while the workers work

    def _work(self, client: Client) -> None:
        self._look(client, self._ids)
        if not self._open():
            self._screen.tell("all of them have ended already; another --folder starts afresh")
            return
        for _ in range(_WORKERS):
            self._start_worker()
        self._start_daemon()
        moved, last = time.monotonic(), -1
        while self._open():
            self._processes.check()
            self._once("explained", self._explain, client)
            self._once("grown", self._tell_of_growth, client)
            self._once("undone", self._tell_of_compensation, client)
            self._kill(client)
            self._screen.progress(self._progress_line())
            if (done := self._done()) != last:
                moved, last = time.monotonic(), done
            elif time.monotonic() - moved > _STALL_SECONDS:
                raise DemoFailed(f"no step has ended for {_STALL_SECONDS:g} s")
            time.sleep(_TICK_SECONDS)
            self._look(client, self._open())
        self._screen.tell(self._progress_line())

    def _look(self, client: Client, keys: Iterable[str]) -> None:
        for key in keys:
            self._steps[key] = client.steps(self._ids[key])

    def _open(self) -> list[str]:
        """The keys of the workflows that have not ended, as last seen."""
        return [
            key
            for key, steps in self._steps.items()
            if any(step.state not in TERMINAL_STEPS for step in steps)
        ]

    def _counts(self) -> Counter[str]:
        return Counter(_end(step) for steps in self._steps.values() for step in steps)

    def _done(self) -> int:
        return sum(count for end, count in self._counts().items() if end in _ENDS)

    def _share(self) -> float:
        return self._done() / self._counts().total()

    def _progress_line(self) -> str:
        counts = self._counts()
        full = int(_BAR_WIDTH * self._share())
        bar = "#" * full + "." * (_BAR_WIDTH - full)
        states = ", ".join(f"{counts[end]} {end}" for end in (*StepState, SKIPPED) if counts[end])
        return f"[{bar}] {self._done()}/{counts.total()} steps ended: {states}"

    def _start_worker(self) -> None:
        process = self._processes.start("worker")
        self._screen.tell(f"worker {process.number} started as process {process.pid}")

    def _start_daemon(self) -> None:
        address_path(self._folder).unlink(missing_ok=True)
        process = self._processes.start("daemon")
        while not self._address():
            self._processes.check()
            time.sleep(_TICK_SECONDS)
        self._screen.tell(f"daemon started as process {process.pid}, metrics on {self._address()}")

    def _start_console(self) -> None:
        path = console_path(self._folder)
        path.unlink(missing_ok=True)
        self._processes.start("console")
        while not (path.exists() and path.read_text()):
            self._processes.check()
            time.sleep(_TICK_SECONDS)
        self._screen.tell(f"console on {path.read_text()}")

    def _address(self) -> str:
        """Where the daemon serves its metrics; empty until it does."""
        path = address_path(self._folder)
        return path.read_text() if path.exists() else ""

    def _once(self, what: str, tell: Callable[[Client], bool], client: Client) -> None:
        """Calls ``tell`` until it has had something to tell."""
        if what not in self._told and tell(client):
            self._told.add(what)

    def _explain(self, client: Client) -> bool:
        """Explains a blocked step or, when none comes for long, a waiting one."""
        for key in self._open():
            again = any(step.state is StepState.RETRYABLE for step in self._steps[key])
            if not again and self._share() < _EXPLAIN_ANY_AT:
                continue
            for step in self._steps[key]:
                if step.state is not StepState.PENDING:
                    continue
                why = client.explain_step(self._ids[key], step.name)
                if why.state is not StepState.PENDING:  # any more
                    continue
                if why.operator_status is OperatorStatus.BLOCKED or not again:
                    self._screen.tell(f"why does {step.name} of {key} not run?")
                    self._screen.tell(*(f"  {line}" for line in self._describe(why)))
                    return True
        return False

    def _tell_of_growth(self, client: Client) -> bool:
        """Tells of a step that has appended others, and who waits for them."""
        for key, steps in self._steps.items():
            for by in (step.appended_by for step in steps if step.appended_by):
                grown = [step.name for step in steps if step.appended_by == by]
                edges = client.graph(self._ids[key]).edges
                waiting = sorted(edge.child for edge in edges if edge.parent == grown[0])
                self._screen.tell(
                    f"{by.step} of {key} has appended {' and '.join(grown)}; who waited for it "
                    f"waits for them, too: {' and '.join(waiting)}"
                )
                return True
        return False

    def _tell_of_compensation(self, client: Client) -> bool:
        """Tells of a step that ran because others had failed, and of these."""
        for key, steps in self._steps.items():
            for step in filter(_undid, steps):
                parents = client.explain_step(self._ids[key], step.name).dependencies
                failed = [
                    f"{parent.step} ({parent.state})"
                    for parent in parents
                    if parent.policy is EdgePolicy.ON_FAILURE
                    and parent.state is not StepState.COMPLETED
                ]
                self._screen.tell(
                    f"{step.name} of {key} has run, as {' and '.join(failed)} did not complete; "
                    "elsewhere it is skipped"
                )
                return True
        return False

    def _kill(self, client: Client) -> None:
        if not self._workers_killed and self._share() >= _KILL_WORKER_AT:
            self._kill_worker()
        elif not self._daemons_killed and self._share() >= _KILL_DAEMON_AT:
            (process,) = self._processes.running("daemon")
            self._processes.kill(process)
            self._daemons_killed += 1
            self._screen.tell(f"the daemon (process {process.pid}) killed with SIGKILL")
            self._start_daemon()
        elif not self._servers_killed and self._share() >= _KILL_SERVER_AT:
            self._kill_server(client)

    def _kill_worker(self) -> None:
        """Kills a worker that holds steps just now, if one does."""
        held = Counter(step.leased_by for steps in self._steps.values() for step in steps)
        for process in self._processes.running("worker"):
            if count := held[worker_id(process.number)]:
                self._processes.kill(process)
                self._workers_killed += 1
                self._screen.tell(
                    f"worker {process.number} (process {process.pid}) killed with SIGKILL, holding "
                    f"{count} steps: they run again when their leases end, in {LEASE:g} s at most"
                )
                self._start_worker()
                return

    def _kill_server(self, client: Client) -> None:
        pid = self._server.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        self._servers_killed += 1
        killed = time.monotonic()
        self._server.ensure_running()
        # Everything that it had written to its file is there again; look at all of it anew.
        before = self._done()
        self._look(client, self._ids)
        self._screen.tell(
            f"the server (process {pid}) killed with SIGKILL; as process {self._server.pid} it is "
            f"back after {time.monotonic() - killed:.2f} s: {before} steps had ended before, "
            f"{self._done()} have now"
        )

    # --- at the end

    def _repairs(self) -> dict[str, int]:
        """The repairs that the daemons' metrics report."""
        if not self._processes.running("daemon"):
            return {}
        with urlopen(self._address(), timeout=_STALL_SECONDS) as answer:  # noqa: S310 - our own address
            text = answer.read().decode()
        found = re.findall(
            r'^rwf_reconcile_repairs_total{kind="(\w+)"} ([1-9]\d*)', text, re.MULTILINE
        )
        return {kind: int(count) for kind, count in found}

    def _summary(self, client: Client, seconds: float, repairs: dict[str, int]) -> Summary:
        self._look(client, self._ids)
        views = {key: client.get(workflow_id) for key, workflow_id in self._ids.items()}
        evidence = [entry for id_ in self._ids.values() for entry in client.evidence(id_)]
        reports = Counter(
            (entry.status, entry.after) for entry in evidence if entry.action == "complete_step"
        )
        statuses = Counter[str]()
        for (status, _), count in reports.items():
            statuses[status] += count
        steps = [step for of_one in self._steps.values() for step in of_one]
        lines = [line for line in self._ledger.steps() if line[0] in self._ids.values()]
        return Summary(
            workflows=dict(Counter(view.state.value for view in views.values())),
            steps=dict(self._counts()),
            appended=sum(step.appended_by is not None for step in steps),
            undone=sum(map(_undid, steps)),
            retries=reports["accepted", StepState.RETRYABLE],
            leases_expired=sum(entry.reason_code == "lease_expired" for entry in evidence),
            repairs=repairs,
            duplicates=statuses["duplicate"],
            refused=statuses["rejected"],
            ledger_lines=len(lines),
            workers_killed=self._workers_killed,
            daemons_killed=self._daemons_killed,
            servers_killed=self._servers_killed,
            seconds=round(seconds, 1),
            differences=(*self._state_differences(views), *self._ledger_differences(lines)),
        )

    def _state_differences(self, views: Mapping[str, WorkflowView]) -> Iterator[str]:
        for key, sync in self._syncs.items():
            wanted = expected.steps(sync)
            if (state := expected.workflow(wanted)) != views[key].state:
                yield f"{key} is {views[key].state}, and must be {state}"
            ends = {step.name: _end(step) for step in self._steps[key]}
            for step in ends.keys() | wanted.keys():
                if ends.get(step) != wanted.get(step):
                    yield f"{key}, {step} is {ends.get(step)}, and must be {wanted.get(step)}"

    def _ledger_differences(self, lines: Sequence[tuple[str, str]]) -> Iterator[str]:
        times = Counter(lines)
        for key, sync in self._syncs.items():
            for step, state in expected.steps(sync).items():
                found, wanted = times[self._ids[key], step], int(state == "completed")
                if found != wanted:
                    yield f"{key}, {step} stands {found} times in the ledger, not {wanted}"


def _end(step: StepView) -> str:
    """A step's state, or that it was skipped."""
    return SKIPPED if step.terminal_cause is StepCause.SKIPPED else step.state.value


def _undid(step: StepView) -> bool:
    return step.worker == "undo_sync" and _end(step) == StepState.COMPLETED
