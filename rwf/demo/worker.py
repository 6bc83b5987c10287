"""One of the demo's two worker processes: ``python -m rwf.demo.worker``.

There are no claims in this version, so a worker looks for available steps and does them. Two may do
the same step: its effects are idempotent, and the second report is recorded as a duplicate, because
both carry the same command id.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rwf import Client, CommandRejected, StoreUnavailable
from rwf.demo.ledger import Ledger
from rwf.demo.work import Task, perform
from rwf.model.states import StepState, WorkflowState
from rwf.model.views import StepView

_IDLE_SECONDS: Final = 0.05
# After so many workflows it looks again: by then the other worker has changed what is available.
_WORKFLOWS_A_LOOK: Final = 2


class Worker:
    """Does available steps of the demo's workflows until its parent has ended or ends it."""

    def __init__(self, client: Client, folder: Path, number: int) -> None:
        self._client = client
        self._folder = folder
        self._ids = frozenset(json.loads((folder / "workflows.json").read_bytes()))
        self._ledger = Ledger(folder / "ledger.jsonl")
        self._now = now_path(folder, number)
        self._actor = f"demo-worker-{number}"
        self._random = random.Random(number)  # noqa: S311 - to divide the work, not to hide it

    def run(self, parent: int) -> None:
        """Works while the process ``parent`` is this one's parent."""
        while os.getppid() == parent:
            try:
                if not self._look():
                    time.sleep(_IDLE_SECONDS)
            except StoreUnavailable:
                # The server was killed; whoever notices first starts it again.
                time.sleep(_IDLE_SECONDS)

    def _look(self) -> bool:
        """Works on some of the workflows that have available steps; False when none has."""
        found = list(self._runnable())
        self._random.shuffle(found)
        for workflow_id in found[:_WORKFLOWS_A_LOOK]:
            for step in self._client.steps(workflow_id):
                if step.state is StepState.AVAILABLE:
                    self._do(workflow_id, step)
        return bool(found)

    def _runnable(self) -> Iterator[str]:
        cursor = None
        while True:
            page = self._client.list(state=WorkflowState.AVAILABLE, limit=500, cursor=cursor)
            yield from (view.id for view in page.workflows if view.id in self._ids)
            cursor = page.cursor
            if cursor is None:
                return

    def _do(self, workflow_id: str, step: StepView) -> None:
        self._now.write_text(f"{step.name} of {workflow_id}")
        attempt = step.attempt + 1
        filled = self._filled(workflow_id, step.input)
        outcome = perform(step.worker, Task(self._folder, attempt, filled))
        if outcome.effect:
            self._ledger.write(workflow_id, step.name, outcome.effect)
        try:
            self._client.complete_step(
                workflow_id,
                step.name,
                outcome.status,
                payload=outcome.payload,
                summary=outcome.summary,
                retry_in=outcome.retry_in,
                actor=self._actor,
                command_id=f"{step.name}-{attempt}",
            )
        except CommandRejected:
            # The other worker was quicker by more than this step; the refusal is on record.
            pass
        finally:
            self._now.write_text("")

    def _filled(self, workflow_id: str, value: Any) -> Any:
        """An input with the results that it refers to, as a claim will give it."""
        match value:
            case {"$result": str(step), **rest}:
                result = self._client.result(workflow_id, step)
                found = None if result is None else result.payload
                for key in filter(None, str(rest.get("path", "")).split(".")):
                    found = None if found is None else found[key]
                return found
            case dict():
                return {key: self._filled(workflow_id, item) for key, item in value.items()}
            case list():
                return [self._filled(workflow_id, item) for item in value]
            case _:
                return value


def now_path(folder: Path, number: int) -> Path:
    """The file in which a worker says what it is doing; empty between two steps."""
    return folder / "workers" / f"{number}.now"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rwf.demo.worker")
    for name in ("--url", "--namespace", "--folder"):
        parser.add_argument(name, required=True)
    for name in ("--number", "--parent"):
        parser.add_argument(name, required=True, type=int)
    given = parser.parse_args()
    with Client.from_url(given.url, namespace=given.namespace) as client:
        Worker(client, Path(given.folder), given.number).run(given.parent)


if __name__ == "__main__":
    main()
