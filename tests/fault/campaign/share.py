"""The share of each process of a campaign, and calls that outlast an outage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from rwf import StoreUnavailable
from tests.fault.campaign.journal import Journal, Reader, entries
from tests.fault.campaign.plan import Plan
from tests.fault.campaign.shapes import plan

T = TypeVar("T")
LEASE: Final = 1.0
"""Of claims and callbacks, in seconds: those of a killed process come back this soon."""
PAUSE: Final = 0.05


@dataclass(frozen=True)
class Share:
    """Number ``index`` of ``of`` processes of one role, which deals with each ``of``-th workflow;
    an inserter rests ``pause`` seconds between two."""

    url: str
    folder: Path
    seed: int
    workflows: int
    pause: float
    index: int
    of: int

    def mine(self, number: int) -> bool:
        return number % self.of == self.index

    def journal(self, kind: str) -> Journal:
        return Journal(self.folder / f"{kind}-{self.index}.jsonl")

    def noted(self, kind: str) -> list[dict[str, Any]]:
        """The notes of its predecessors."""
        return entries(self.folder, f"{kind}-{self.index}.")

    def ready(self, number: int) -> Path:
        """The file whose existence means that a workflow's operator has done their part: mended the
        cause of its failure, or appended steps."""
        return self.folder / f"ready-{number}"


class Acknowledged:
    """The inserted workflows of a share, as they become known and their delay has passed."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._reader = Reader(share.folder, "inserted-")
        self._early: list[tuple[float, Plan, str]] = []
        self._left = sum(map(share.mine, range(share.workflows)))

    @property
    def all_seen(self) -> bool:
        return not self._left

    def due(self) -> list[tuple[Plan, str]]:
        """Those that have become due since the last call: their plans and ids."""
        for entry in self._reader.new():
            if self._share.mine(entry["number"]):
                one = plan(self._share.seed, entry["number"])
                self._early.append((entry["at"] + one.delay, one, entry["id"]))
        now = time.monotonic()
        found = [(one, workflow_id) for at, one, workflow_id in self._early if at <= now]
        self._early = [entry for entry in self._early if entry[0] > now]
        self._left -= len(found)
        return found


def answered(call: Callable[[], T]) -> T:
    """The result of a call, repeated for as long as the server is away."""
    while True:
        try:
            return call()
        except StoreUnavailable:
            time.sleep(PAUSE)
