"""A process of a campaign: ``python -m tests.fault.campaign.actors ROLE --url URL ...``.

Inserters, signallers and operators end once their share is done; the others go on for ever. Started
anew after a kill, each goes on from the acknowledgements in its journals, and repeats commands that
may or may not have been carried out. With ``--clock-off SECONDS`` the process's clock is off by so
much.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fault.campaign.clients import dispatcher, inserter, signaller
from tests.fault.campaign.clocks import put_clock_off
from tests.fault.campaign.operators import operator
from tests.fault.campaign.share import Share
from tests.fault.campaign.workers import daemon, executor, launcher, worker

ROLES: Final[dict[str, Callable[[Share], None]]] = {
    role.__name__: role
    for role in (
        inserter,
        signaller,
        operator,
        dispatcher,
        worker,
        executor,
        launcher,
        daemon,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.campaign.actors")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    for name in ("--seed", "--workflows", "--index", "--of"):
        parser.add_argument(name, required=True, type=int)
    for name in ("--pause", "--clock-off"):
        parser.add_argument(name, required=True, type=float)
    given = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    role, clock_off = given.pop("role"), given.pop("clock_off")
    if clock_off:
        put_clock_off(clock_off)
    share = Share(**given)
    share.journal(f"started-{role}").note(clock=time.time())
    ROLES[role](share)


if __name__ == "__main__":
    main()
