"""The mutants that are known to survive: ``survivors.md``, with the reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SURVIVORS: Final = frozenset(
    line.strip()
    for line in Path(__file__).with_suffix(".md").read_text().splitlines()
    if line.startswith("    ")
)
"""Their ``Mutant.key``."""
