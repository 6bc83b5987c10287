"""The demo's processes: ``python -m rwf.demo.process worker``, ``daemon`` and ``console``.

Each ends when its parent has ended, however that came about.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rwf import (
    Append,
    AsyncClient,
    Cancel,
    Client,
    Fail,
    Reconciler,
    Retry,
    StepContext,
    Worker,
    metrics,
)
from rwf.demo.ledger import Ledger
from rwf.demo.work import WORKERS, Task, perform

QUEUES: Final = ("default", "billing", "orders")
# Short, so that a killed worker's steps are soon run by another.
LEASE: Final = 2.0
_LOOK_SECONDS: Final = 0.5


def worker_id(number: int) -> str:
    """The name of a worker where its steps are shown."""
    return f"demo-worker-{number}"


def address_path(folder: Path) -> Path:
    """The file in which the daemon says where its metrics are."""
    return folder / "processes" / "metrics.txt"


def console_path(folder: Path) -> Path:
    """The file in which the console says where it is."""
    return folder / "processes" / "console.txt"


def _handler(name: str, folder: Path) -> Callable[[StepContext], Any]:
    """Does the work of a step, and writes down its effect before that is reported."""
    ledger = Ledger(folder / "ledger.jsonl")

    def handle(ctx: StepContext) -> Any:
        outcome = perform(name, Task(folder, ctx.attempt, ctx.input))
        if outcome.effect:
            ledger.write(ctx.workflow_id, ctx.step, outcome.effect)
        match outcome.status:
            case "retryable":
                raise Retry(outcome.summary, in_=outcome.retry_in)
            case "failed":
                raise Fail(outcome.summary)
            case "cancelled":
                raise Cancel(outcome.summary)
        if outcome.append:
            return Append(outcome.append, result=outcome.payload)
        return outcome.payload

    return handle


def _work(url: str, namespace: str, folder: Path, number: int, parent: int) -> None:
    worker = Worker(
        AsyncClient.from_url(url, namespace=namespace),
        queues=QUEUES,
        concurrency=2,
        lease=LEASE,
        grace=LEASE,
        worker_id=worker_id(number),
        reconcile=False,
    )
    for name in WORKERS:
        worker.step(name)(_handler(name, folder))
    _outlived_by(parent, worker.stop)
    worker.run()


def _reconcile(url: str, namespace: str, folder: Path, number: int, parent: int) -> None:
    with Client.from_url(url, namespace=namespace) as client:
        reconciler = Reconciler(client, interval=0.2, sweep_interval=5)
        _outlived_by(parent, reconciler.stop)
        with metrics.serve(client, port=0, reconciler=reconciler) as server:
            address_path(folder).write_text(f"http://{server.host}:{server.port}/metrics")
            reconciler.run()


def _show(url: str, namespace: str, folder: Path, number: int, parent: int) -> None:
    from rwf.console.access import LoopbackAccess
    from rwf.console.serving import PORT, serve

    try:
        listener = socket.create_server(("127.0.0.1", PORT))
    except OSError:  # another one is there
        listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        _outlived_by(parent, lambda: os.kill(os.getpid(), signal.SIGTERM))
        console_path(folder).write_text(f"http://127.0.0.1:{listener.getsockname()[1]}")
        serve(
            lambda: AsyncClient.from_url(url, namespace=namespace),
            listener,
            LoopbackAccess(getpass.getuser()),
            allow_actions=True,
        )


def _outlived_by(parent: int, stop: Callable[[], None]) -> None:
    """Calls ``stop`` once this process is no longer a child of ``parent``, until it ends: it
    may not have begun yet."""

    def watch() -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            if os.getppid() != parent:
                stop()

    threading.Thread(target=watch, daemon=True).start()


ROLES: Final = {"worker": _work, "daemon": _reconcile, "console": _show}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rwf.demo.process")
    parser.add_argument("role", choices=ROLES)
    for name in ("--url", "--namespace", "--folder"):
        parser.add_argument(name, required=True)
    for name in ("--number", "--parent"):
        parser.add_argument(name, required=True, type=int)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    role = ROLES[given.role]
    role(given.url, given.namespace, Path(given.folder), given.number, given.parent)


if __name__ == "__main__":
    main()
