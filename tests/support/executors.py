"""Executors in tests: the recipes of ``docs/executors.md`` with a broker, a worker process and a
dispatcher of their own."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis

from rwf import Client
from rwf.adapters.dispatcher import Dispatcher
from tests.support.servers import Server
from tests.support.waiting import until

_DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "executors.md"
_ADDRESS: Final = "redis://127.0.0.1:6379"

EXECUTORS: Final = {
    "celery": "-c 1 -l warning --without-gossip --without-mingle",
    "rq": "",
    "taskiq": "--workers 1 --max-async-tasks 1",
    "dramatiq": "-p 1 -t 1",
}
"""The options with which each executor's worker runs one step at a time."""

HANDLERS: Final = """
import time
from rwf import Append, Await, Cancel, Fail, Fragment, RunWorkflow, StepContext, Workflow

@handlers.step("echo")
def echo(n: int) -> int:
    return n

@handlers.step("flaky")
def flaky(ctx: StepContext) -> int:
    if ctx.attempt == 1:
        raise RuntimeError("not yet")
    return ctx.attempt

@handlers.step("fails")
def fails() -> None:
    raise Fail("no stock")

@handlers.step("asks")
def asks(ctx: StepContext) -> str:
    if ctx.signal is None:
        raise Await(signal="answer", correlation_key=ctx.workflow_id)
    return ctx.signal.payload

@handlers.step("until_cancelled")
def until_cancelled(ctx: StepContext) -> None:
    while not ctx.cancel_requested:
        ctx.heartbeat()
        time.sleep(0.02)
    raise Cancel("as asked")

@handlers.step("sleeps")
def sleeps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@handlers.step("appends")
def appends() -> Append:
    return Append(Fragment().add("more", worker="echo", input={"n": 8}))

@handlers.step("parent")
def parent() -> None:
    raise RunWorkflow(Workflow("child").add("inner", worker="echo", input={"n": 7}))
"""


class Recipe:
    """One executor's recipe, as it stands: its module, and the command of its worker."""

    def __init__(self, name: str) -> None:
        found = re.search(
            rf"in `({name}_app)\.py`:(.*?)(?=^## )", _DOCUMENT.read_text(), re.M | re.S
        )
        assert found, name
        self.module, text = found.groups()
        python, console = re.findall(r"^```(?:python|console)\n(.*?)^```", text, re.M | re.S)
        self.source: str = python
        self.worker, self.dispatcher = console.splitlines()


class Fleet:
    """An executor at work: the graph is in database 0 of a server, and the broker in database 1 of
    the same or of another."""

    def __init__(
        self,
        name: str,
        server: Server,
        broker: Server,
        folder: Path,
        worker: str,
        dispatcher: str,
        more: str,
    ) -> None:
        self.name = name
        self.client = Client.from_url(f"redis://127.0.0.1:{server.port}/0")
        self.broker = redis.Redis(port=broker.port, db=1)
        self.folder = folder
        self._recipe = Recipe(name)
        self._addresses = {0: server.port, 1: broker.port}
        source = self._recipe.source.replace("handlers, ", f"handlers, {dispatcher}", 1)
        (folder / f"{self._recipe.module}.py").write_text(self._here(source + HANDLERS + more))
        self._command = f"{self._here(self._recipe.worker)} {worker}"
        self._worker: subprocess.Popen[bytes] | None = None

    def _here(self, text: str) -> str:
        """A recipe's text with the addresses of this fleet."""
        for database, port in self._addresses.items():
            text = text.replace(f"{_ADDRESS}/{database}", f"redis://127.0.0.1:{port}/{database}")
        return text

    def start_worker(self) -> None:
        """Starts the worker process; its output goes to a file."""
        program, *args = shlex.split(self._command)
        with (self.folder / "worker.log").open("ab") as log:
            self._worker = subprocess.Popen(
                [str(Path(sys.executable).parent / program), *args],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": f"{self.folder}:{Path.cwd()}"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ask_worker_to_end(self) -> None:
        """Has its main process end gracefully."""
        assert self._worker is not None
        self._worker.send_signal(signal.SIGTERM)

    def kill_worker(self) -> None:
        """Kills all its processes; RQ's run each job in a session of its own."""
        if self._worker is not None:
            for pid in (*_below(self._worker.pid), self._worker.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._worker.wait()

    def keep_worker(self) -> None:
        """Starts the worker again where it has ended by itself, as a supervisor does: Celery's ends
        when its broker goes away at the wrong moment."""
        if self._worker is not None and self._worker.poll() is not None:
            self.kill_worker()
            self.start_worker()

    def log(self) -> str:
        """The output of the worker."""
        path = self.folder / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def dispatcher(self) -> Dispatcher:
        """The recipe's dispatcher, in this process."""
        module = importlib.import_module(self._recipe.module)
        found = module.dispatcher
        assert isinstance(found, Dispatcher)
        return found

    def dispatch_command(self) -> subprocess.Popen[bytes]:
        """``rwf dispatch``, as a process."""
        args = shlex.split(self._recipe.dispatcher)[1:]
        return subprocess.Popen(
            [sys.executable, "-m", "rwf", *args, "--metrics", "off"],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": f"{self.folder}:{Path.cwd()}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _below(pid: int) -> Iterator[int]:
    """The processes that a process, and those below it, have started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for child in map(int, children.read_text().split()) if children.exists() else ():
        yield from _below(child)
        yield child


@contextmanager
def fleet(
    name: str,
    server: Server,
    folder: Path,
    *,
    broker: Server | None = None,
    worker: str | None = None,
    dispatcher: str = "",
    more: str = "",
) -> Iterator[Fleet]:
    """A fleet without a dispatcher, whose worker runs. ``worker`` has options of its command, and
    ``dispatcher`` arguments of the dispatcher, such as ``hold=4, ``; ``more`` is Python for the
    module."""
    given = EXECUTORS[name] if worker is None else worker
    made = Fleet(name, server, broker or server, folder, given, dispatcher, more)
    sys.path.insert(0, str(folder))
    try:
        made.start_worker()
        yield made
    finally:
        made.kill_worker()
        made.client.close()
        made.broker.close()
        sys.path.remove(str(folder))
        module = sys.modules.pop(f"{name}_app", None)
        for opened in vars(module).values() if module else ():
            if isinstance(opened, Client | redis.Redis):
                opened.close()


@contextmanager
def dispatching(dispatcher: Dispatcher) -> Iterator[None]:
    """Runs the dispatcher in a thread."""
    thread = threading.Thread(target=dispatcher.run)
    thread.start()
    try:
        yield
    finally:
        dispatcher.stop()
        until(lambda: not thread.is_alive(), what="the dispatcher's end")


@contextmanager
def sent_twice(dispatcher: Dispatcher) -> Iterator[None]:
    """Each of its messages is delivered twice meanwhile."""
    send: Any = dispatcher.send

    def twice(queue: str, tickets: Sequence[Any]) -> None:
        send(queue, [*tickets, *tickets])

    async def twice_async(queue: str, tickets: Sequence[Any]) -> None:
        await send(queue, [*tickets, *tickets])

    patched: Any = twice_async if inspect.iscoroutinefunction(send) else twice
    setattr(dispatcher, "send", patched)  # noqa: B010
    try:
        yield
    finally:
        del dispatcher.send
