"""Which partitions a client could not reach when it last asked them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rwf.errors import ClientClosed, RwfError

_log = logging.getLogger("rwf")

# For how long, in seconds, new workflows go elsewhere, unless the partition has answered since.
_AVOIDED: Final = 5.0
# How long, in seconds, it is taken for granted that partitions which have answered still do.
_LOOKED: Final = 1.0


class Away:
    """The partitions that did not answer, and since when. Logs when there are some, and when all
    answer again. Safe to share between threads."""

    def __init__(self, *, several_nodes: bool = False) -> None:
        self._several_nodes = several_nodes
        self._failed: dict[int, float] = {}
        self._looked = -_LOOKED

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that did not answer when they were last asked."""
        return tuple(sorted(self._failed))

    def is_unsure(self, partitions: int) -> bool:
        """Whether it is long ago that all partitions were asked, and some may answer where others
        do not."""
        several = self._several_nodes and partitions > 1
        return several and time.monotonic() - self._looked > _LOOKED

    def note(
        self,
        failed: Mapping[int, RwfError],
        answered: Iterable[int] = (),
        *,
        all_asked: bool = False,
    ) -> None:
        """Partitions were asked, of which some did not answer. Those of a client that was closed
        meanwhile were not asked."""
        failed = {n: why for n, why in failed.items() if not isinstance(why, ClientClosed)}
        known = bool(self._failed)
        for number in answered if known else ():
            self._failed.pop(number, None)
        new = failed.keys() - self._failed.keys()
        now = time.monotonic()
        if all_asked:
            self._looked = now
        self._failed.update(dict.fromkeys(failed, now))
        if new:
            why = failed[min(new)]
            _log.warning("%s unreachable; the others are served: %s", _named(new), why)
        elif known and not self._failed:
            _log.warning("all partitions are reachable again")

    def living(self, partitions: int) -> Sequence[int]:
        """Where a new workflow is to go: partitions that have not failed just before; all, where
        all have."""
        if not self._failed:
            return range(partitions)
        since = time.monotonic() - _AVOIDED
        found = [n for n in range(partitions) if self._failed.get(n, since) <= since]
        return found or range(partitions)


def _named(numbers: Iterable[int]) -> str:
    some = sorted(numbers)
    listed = ", ".join(map(str, some[:8])) + (", ..." if len(some) > 8 else "")
    return f"partition {listed} is" if len(some) == 1 else f"{len(some)} partitions ({listed}) are"
