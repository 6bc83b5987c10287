"""One campaign from beginning to end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rwf import Client
from rwf.model.states import TERMINAL_STEPS
from tests.fault.campaign.chaos import Blow, Chaos, strikes
from tests.fault.campaign.fleet import COUNTS, Fleet
from tests.fault.campaign.oracle import Findings, judge
from tests.support.servers import ALWAYS, Server

_STUCK: Final = 60.0
"""Seconds in which something must end, after the last strike; a busy machine is far behind then."""
_PAUSE: Final = 0.2
_DELIVERED: Final = "delivered"


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
        Server.start(kind, aof=True, extra=ALWAYS) as server,
        Client.from_url(server.url) as client,
        Fleet(server.url, folder, seed, workflows, pause) as fleet,
    ):
        fleet.start()
        began = time.monotonic()
        chaos = Chaos(fleet, server)
        for _ in chaos.run(planned):
            fleet.mind()
        struck = time.monotonic()
        _settle(client, fleet)
        settled = time.monotonic()
        fleet.stop()
        findings = judge(client, folder, seed)
        findings.breaches += fleet.crashes
    hits = {f"{blow} {role}": count for (blow, role), count in chaos.hits.items() if count}
    return Report(seed, hits, struck - began, settled - struck, findings)


def _settle(client: Client, fleet: Fleet) -> None:
    """Waits until nothing is left to do, or nothing ends any more: the oracle then tells which work
    is stuck."""
    ended: object = None
    moved = time.monotonic()
    while True:
        fleet.mind()
        found = client.stats()
        left = {status: n for status, n in found.callbacks.items() if n and status != _DELIVERED}
        if fleet.share_done and not left and not sum(found.open.values()):
            return
        so_far = found.callbacks, [found.steps.get(state, 0) for state in sorted(TERMINAL_STEPS)]
        if so_far != ended:
            ended, moved = so_far, time.monotonic()
        elif time.monotonic() - moved > _STUCK:
            fleet.crashes.append(f"for {_STUCK:g} s nothing has ended; callbacks left: {left}")
            return
        time.sleep(_PAUSE)


def new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="rwf-campaign-"))
