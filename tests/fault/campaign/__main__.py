"""``python -m tests.fault.campaign --seed N --workflows N --kills N``; exit code 1 for a breach."""

from __future__ import annotations

import argparse
import sys

from tests.fault.campaign.run import campaign, new_folder
from tests.support.servers import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.campaign")
    for name, default in (("--seed", 1), ("--workflows", 5000), ("--kills", 300)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--server", choices=KINDS, default="valkey91")
    given = parser.parse_args()
    folder = new_folder()
    print("journals and logs:", folder, flush=True)
    report = campaign(
        given.server,
        seed=given.seed,
        workflows=given.workflows,
        kills=given.kills,
        folder=folder,
    )
    print(*report.lines(), sep="\n")
    return bool(report.findings.breaches)


if __name__ == "__main__":
    sys.exit(main())
