"""The command: see the package."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from tests.fault.mutation.campaign import Campaign
from tests.fault.mutation.lua import GUARDED, LuaCampaign
from tests.fault.mutation.python import CORE, PythonCampaign
from tests.fault.mutation.survivors import SURVIVORS


def _run(campaign: Campaign, tests: Sequence[str]) -> bool:
    """Whether all mutants were run, and every survivor is on the list."""
    options = ["-q", "-p", "no:cacheprovider", "-m", "not long", "--capture=sys"]
    pytest.main([*options, *(tests or campaign.tests)], plugins=[campaign])
    unlisted = [mutant for mutant in campaign.survivors if mutant.key not in SURVIVORS]
    print(
        f"{campaign.ran} of {len(campaign.subjects)} mutants were run, {len(campaign.survivors)}"
        f" survive, {len(unlisted)} of them without a reason:",
        *unlisted,
        sep="\n",
    )
    return campaign.ran == len(campaign.subjects) and not unlisted


def main(arguments: Sequence[str]) -> int:
    tests = [file for file in arguments if file.startswith("tests/")]
    files = [file for file in arguments if file not in tests] or [*GUARDED, *CORE]
    kinds: Sequence[type[Campaign]] = (PythonCampaign, LuaCampaign)
    done = [
        _run(kind(own), tests)
        for kind in kinds
        if (own := [file for file in files if file.endswith(kind.suffix)])
    ]
    return int(not all(done))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
