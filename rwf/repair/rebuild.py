"""Rebuilding all derived keys from the records alone, whatever was lost or overwritten.

Restored are the ready queue with what claimers have reserved, timers, listing, outbox and the list
of unfinished inserts of each partition; each workflow's wait notices, counts and dead callbacks;
each topic's registrations and its hand-off; the listing of bulk sessions. They are found from the
record keys, and these by SCAN.

Gauges are corrected in partitions where nothing happens while they are counted (``gauges.py``).

Not restored, as no record implies it: when somebody last asked for a queue (``served``: workers
tell again), the counters of the statistics, insert keys, evidence, and the turns of large workflows
in the ready queue (``:t``, a field of the record: without it a workflow's next turn is the present
one).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Literal

from rwf.errors import NotFound, RwfError
from rwf.model.limits import ITEMS_PER_CALL, LISTED
from rwf.model.states import SEMANTICS_VERSIONS, RepairKind
from rwf.model.views import GaugeDifference, RebuildFailure, RebuildProgress, RebuildReport
from rwf.ops.base import OpContext, catch_errors
from rwf.protocol.codecs import UNREADABLE
from rwf.protocol.functions.bulk import ListBulk
from rwf.protocol.keys import home_partition, partition_of
from rwf.protocol.requests import CONNECT, Op, Scan, ask
from rwf.repair.gauges import mend_gauges
from rwf.repair.orphans import DERIVED_SETS, NO_VERSION, remove_from, restore_keys
from rwf.repair.reconcile import reconcile
from rwf.repair.topics import check_topic

Listener = Callable[[RebuildProgress], None]
Stage = Literal["workflows", "topics", "orphans"]

_DIGEST: Final = re.compile("[0-9a-f]{40}")


def rebuild(ctx: OpContext, progress: Listener | None) -> Op[RebuildReport]:
    """Restores all partitions; can be stopped at any time, and run again, while others work."""
    if not ctx.keys.partitions:
        yield CONNECT
    return (yield from _Rebuild(ctx, progress).run(range(ctx.keys.partitions), "*"))


def restore(ctx: OpContext, partition: int) -> Op[RebuildReport]:
    """Rebuilds one partition, and the topics that have their home there."""
    return (yield from _Rebuild(ctx, None).run([partition], str(partition)))


class _Rebuild:
    def __init__(self, ctx: OpContext, progress: Listener | None) -> None:
        self._ctx = ctx
        self._progress = progress
        self._workflows = 0
        self._topics = 0
        self._repairs: Counter[str] = Counter()
        self._failures: list[RebuildFailure] = []
        self._failure_count = 0
        self._gauges: list[GaugeDifference] = []

    def run(self, partitions: Iterable[int], pattern: str) -> Op[RebuildReport]:
        """Workflows first, so that topics hand signals over to repaired workflows."""
        partitions = list(partitions)
        for partition in partitions:
            yield from self._restore_keys(partition, [])
        yield from self._scan(pattern, "[wd]", self._visit_workflows)
        yield from self._scan(pattern, "[sr][ie]g", self._visit_topics)
        if 0 in partitions:
            yield from self._scan("0", "bulk", self._visit_bulk_sessions)
        for partition in partitions:
            for name in DERIVED_SETS:
                self._repairs += yield from remove_from(self._ctx, partition, name)
            mended = yield from mend_gauges(self._ctx, partition)
            self._gauges += mended
            self._repairs += Counter({RepairKind.GAUGE_WRONG: len(mended)})
            self._tell("orphans")
        return RebuildReport(
            workflows=self._workflows,
            topics=self._topics,
            repairs=dict(sorted(self._repairs.items())),
            failures=tuple(self._failures),
            failure_count=self._failure_count,
            gauges=tuple(self._gauges),
        )

    def _tell(self, stage: Stage) -> None:
        if self._progress is not None:
            self._progress(
                RebuildProgress(
                    stage=stage,
                    workflows=self._workflows,
                    topics=self._topics,
                    repairs=self._repairs.total(),
                )
            )

    def _scan(
        self, pattern: str, kinds: str, visit: Callable[[list[tuple[int, str, str]]], Op[None]]
    ) -> Op[None]:
        """Visits all keys of these kinds on every primary: partition, kind and the id that
        follows."""
        namespace = self._ctx.keys.namespace
        match = f"{namespace}:{{{pattern}}}:{kinds}:*"
        form = re.compile(rf"{re.escape(namespace)}:\{{([0-9]+)\}}:([a-z]+):([0-9a-z-]+)".encode())
        pages: dict[str, tuple[int, list[bytes]]] = yield Scan(match)
        while pages:
            node, (cursor, keys) = pages.popitem()
            found = [parts.groups() for key in keys if (parts := form.fullmatch(key))]
            yield from visit([(int(p), kind.decode(), i.decode()) for p, kind, i in found])
            if cursor:
                pages |= yield Scan(match, node, cursor)

    def _visit_workflows(self, keys: list[tuple[int, str, str]]) -> Op[None]:
        by_partition: dict[int, dict[str, bool]] = {}
        for partition, kind, workflow_id in keys:
            if partition_of(workflow_id) == partition:
                flows = by_partition.setdefault(partition, {})
                flows[workflow_id] = flows.get(workflow_id, False) or kind == "w"
        for partition, flows in by_partition.items():
            versions = yield from self._restore_keys(partition, list(flows))
            for (workflow_id, is_record), version in zip(flows.items(), versions, strict=True):
                if is_record and version:
                    yield from self._restore_workflow(workflow_id, version)
        self._tell("workflows")

    def _restore_keys(self, partition: int, workflow_ids: list[str]) -> Op[list[str]]:
        versions: list[str] = []
        for start in range(0, max(len(workflow_ids), 1), ITEMS_PER_CALL):
            some = workflow_ids[start : start + ITEMS_PER_CALL]
            repairs, found = yield from restore_keys(self._ctx, partition, some)
            self._repairs += repairs
            versions += found
        return versions

    def _restore_workflow(self, workflow_id: str, version: str) -> Op[None]:
        self._workflows += 1
        if version not in map(str, SEMANTICS_VERSIONS):
            known = version != NO_VERSION
            self._fail(
                workflow_id, f"unsupported semantics version {version}" if known else UNREADABLE
            )
            return
        found = yield from catch_errors(reconcile(self._ctx, workflow_id))
        if isinstance(found, NotFound):
            self._workflows -= 1  # it has gone meanwhile
        elif isinstance(found, Exception):
            self._fail(workflow_id, _reason(found))
        else:
            self._repairs += Counter(repair.kind for repair in found.repairs)

    def _visit_topics(self, keys: list[tuple[int, str, str]]) -> Op[None]:
        home_partitions = self._ctx.keys.home_partitions
        for digest in {
            digest
            for home, _, digest in keys
            if _DIGEST.fullmatch(digest) and home_partition(digest, home_partitions) == home
        }:
            self._topics += 1
            found = yield from catch_errors(check_topic(self._ctx, digest))
            if isinstance(found, Exception):
                self._fail(digest, _reason(found))
            else:
                self._repairs += found
        self._tell("topics")

    def _visit_bulk_sessions(self, keys: list[tuple[int, str, str]]) -> Op[None]:
        for _, _, session_id in keys:
            yield from ask(self._ctx.keys.bulk(session_id), ListBulk())

    def _fail(self, what: str, message: str) -> None:
        self._failure_count += 1
        if len(self._failures) < LISTED:
            self._failures.append(RebuildFailure(id=what, message=message))


def _reason(error: Exception) -> str:
    """Only our own messages are sure to quote nothing that was stored."""
    return str(error) if isinstance(error, RwfError) else f"unreadable: {type(error).__name__}"
