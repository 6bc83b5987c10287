"""One campaign from beginning to end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rwf import Client
from rwf.model.states import TERMINAL_WORKFLOWS
from tests.fault.campaign.chaos import Blow, Chaos, strikes
from tests.fault.campaign.fleet import COUNTS, Fleet
from tests.fault.campaign.oracle import Findings, judge, listed
from tests.support.servers import Server
from tests.support.waiting import until

_OPTIONS: Final = ("--appendfsync", "always")
_SETTLED: Final = 120.0
"""Seconds after the last strike in which all must have ended, and as long again as the strikes
took: a busy machine falls behind."""


@dataclass(frozen=True)
class Report:
    """The strikes of a campaign, and the oracle's findings."""

    seed: int
    hits: dict[str, int]
    """Strikes by kind and role."""
    striking_seconds: float
    settling_seconds: float
    findings: Findings

    @property
    def kills(self) -> int:
        return sum(n for what, n in self.hits.items() if what.startswith(Blow.KILL))

    def lines(self) -> Iterable[str]:
        found = self.findings
        yield f"seed {self.seed}: {found.workflows} workflows ({found.acknowledged} acknowledged)"
        yield f"{found.steps} steps, {found.runs} handler runs, {found.results} results"
        yield f"{found.acknowledged_reports} reports acknowledged to executors"
        yield f"{found.callbacks} callbacks, received {found.deliveries} times"
        yield f"{self.kills} kills; by whom: " + ", ".join(
            f"{what} {count}" for what, count in sorted(self.hits.items())
        )
        yield f"strikes took {self.striking_seconds:.0f} s, the rest {self.settling_seconds:.1f} s"
        yield from (f"evidence: {n} x {what}" for what, n in sorted(found.evidence.items()))
        yield f"{len(found.breaches)} breaches"
        yield from found.breaches


def campaign(kind: str, *, seed: int, workflows: int, kills: int, folder: Path) -> Report:
    """Runs a campaign on a server of this kind. The inserts are spread over the time of the
    strikes."""
    planned = strikes(seed, kills)
    lasting = sum(strike.seconds for strike in planned)
    pause = lasting * COUNTS["inserter"] / workflows
    with (
        Server.start(kind, aof=True, extra=_OPTIONS) as server,
        Client.from_url(server.url) as client,
        Fleet(server.url, folder, seed, workflows, pause) as fleet,
    ):
        fleet.start()
        began = time.monotonic()
        chaos = Chaos(fleet, server)
        for _ in chaos.run(planned):
            fleet.mind()
        struck = time.monotonic()
        _settle(client, fleet, _SETTLED + lasting)
        settled = time.monotonic()
        fleet.stop()
        findings = judge(client, folder, seed)
        findings.breaches += fleet.crashes
    hits = {f"{blow} {role}": count for (blow, role), count in chaos.hits.items() if count}
    return Report(seed, hits, struck - began, settled - struck, findings)


def _settle(client: Client, fleet: Fleet, timeout: float) -> None:
    """Waits until nothing is left to do, or its time is up: the oracle then tells which work is
    stuck."""
    ended: set[str] = set()
    waiting: set[str] = set()

    def over() -> bool:
        fleet.mind()
        if not fleet.share_done:
            return False
        if not waiting:  # child workflows may have been inserted meanwhile
            waiting.update({view.id for view in listed(client)} - ended)
        found = {one for one in waiting if _is_over(client, one)}
        waiting.difference_update(found)
        ended.update(found)
        return not found and not waiting

    try:
        until(over, timeout=timeout, what="the end of all workflows")
    except AssertionError as stuck:
        fleet.crashes.append(str(stuck))


def _is_over(client: Client, workflow_id: str) -> bool:
    if client.get(workflow_id).state not in TERMINAL_WORKFLOWS:
        return False
    return all(callback.status == "delivered" for callback in client.callbacks(workflow_id))


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="rwf-campaign-"))
