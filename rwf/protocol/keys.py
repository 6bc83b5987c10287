"""Every key name, top to bottom. Braces hold the partition, so a partition is one hash slot."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b32encode
from collections.abc import Iterable
from typing import Final

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{40}")
_ID: Final = re.compile(r"(0|[1-9][0-9]{0,4})-[a-z2-7]{16}")


def is_namespace(text: str) -> bool:
    """Whether a text may be a namespace: letters, digits, ``.``, ``_``, ``-``; at most 64."""
    return _NAMESPACE.fullmatch(text) is not None


def new_workflow_id(partition: int) -> str:
    """An id that nobody else makes; it carries its partition."""
    return f"{partition}-{b32encode(os.urandom(10)).decode().lower()}"


def partition_of(workflow_id: str) -> int | None:
    """The partition that a workflow id carries; None when it is not an id."""
    match = _ID.fullmatch(workflow_id)
    return int(match[1]) if match else None


def home_of(workflow_id: str) -> int:
    """The partition of a text that is known to be a workflow id."""
    return int(workflow_id.partition("-")[0])


def key_digest(key: str) -> str:
    """An insert key as it is stored: keys are data, and are kept out of names."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def topic_digest(signal: str, correlation_key: str) -> str:
    """A signal's name and a correlation key, in the form used in key names."""
    return key_digest(f"{signal}\0{correlation_key}")


def is_digest(text: str, partition: int, home_partitions: int) -> bool:
    """Whether a text is the digest of a topic or an insert key that lives in this partition."""
    return (
        _DIGEST.fullmatch(text) is not None and home_partition(text, home_partitions) == partition
    )


def home_partition(digest: str, home_partitions: int) -> int:
    """Where an insert key or a topic lives, which never changes, as their number is fixed."""
    return int(digest[:8], 16) % home_partitions


class Keys:
    """The key names of one namespace.

    ``partitions`` is how many it has, and ``home_partitions`` how many it was created with; both
    are 0 until the client has read the meta record.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.partitions = 0
        self.home_partitions = 0

    def _key(self, partition: int, rest: str) -> str:
        return f"{self.namespace}:{{{partition}}}:{rest}"

    def meta(self) -> str:
        """Hash: how many partitions there are."""
        return self._key(0, "meta")

    def daemons(self) -> str:
        """Sorted set: the daemons that run, by when they were last seen (ms)."""
        return self._key(0, "daemons")

    def workers(self, worker: str) -> list[str]:
        """The keys of a function on a worker: those of its home partition."""
        return self.workers_of(home_partition(key_digest(worker), self.home_partitions))

    def workers_of(self, partition: int) -> list[str]:
        """Sorted set: the workers whose home a partition is, by when they were last seen (ms); and
        hash: the record of each."""
        return [self._key(partition, "workers"), self._key(partition, "about")]

    def bulk(self, session_id: str) -> list[str]:
        """The keys of a bulk session: the listing of sessions, its hash, the list of its refusals
        (``bulk.lua``)."""
        return [self.bulks(), self._key(0, f"bulk:{session_id}"), self._key(0, f"br:{session_id}")]

    def bulks(self) -> str:
        """Sorted set: the bulk sessions, those that are open first."""
        return self._key(0, "bulks")

    def sweep(self, partition: int) -> str:
        """Hash: how far the sweep of a partition has come (``sweep_cursor.lua``)."""
        return self._key(partition, "sweep")

    def events(self, partition: int) -> str:
        """Channel: hints that something has changed."""
        return self._key(partition, "events")

    def partition(self, partition: int) -> list[str]:
        """The partition's keys, as every function takes them: in the order of PARTITION_SLOTS."""
        start = self._key(partition, "")
        return [start + name for name in PARTITION_SLOTS]

    def derived(self, partition: int, name: str) -> str:
        """The derived key of this name."""
        return self._key(partition, name)

    def stats_beside(self, key: str) -> str:
        """The statistics of the partition that another key belongs to."""
        return f"{key[: key.index('}')]}}}:stats"

    def workflow(self, workflow_id: str) -> list[str]:
        """A workflow's own keys, in the order of ``WORKFLOW_SLOTS``."""
        partition = home_of(workflow_id)
        start = self._key(partition, "")
        return [f"{start}{name}:{workflow_id}" for name in WORKFLOW_SLOTS]

    def record(self, workflow_id: str) -> str:
        """The workflow's hash of its header and steps."""
        return self._key(home_of(workflow_id), f"w:{workflow_id}")

    def payloads(self, workflow_id: str) -> str:
        """The workflow's hash of payloads, and of what else is read apart from the steps."""
        return self._key(home_of(workflow_id), f"p:{workflow_id}")

    def wait_notices(self, workflow_id: str) -> str:
        """A sorted set: its waits' deadlines, and notices to be given to their topics."""
        return self._key(home_of(workflow_id), f"d:{workflow_id}")

    def topic(self, digest: str) -> list[str]:
        """The keys of a function on a topic: its home partition's, then its own."""
        return self.topics(home_partition(digest, self.home_partitions), [digest])

    def topics(self, home: int, digests: Iterable[str]) -> list[str]:
        """The keys of a function on several topics of one partition.

        ``sig`` is a hash: its signals, and the waits that it knows of; ``reg`` a sorted set:
        the waits that stand.
        """
        own = (self._key(home, f"{name}:{digest}") for digest in digests for name in TOPIC_KEYS)
        return [*self.partition(home), *own]


# ready   sorted set: available steps, in the order in which they are to be claimed
# timers  sorted set by due time (ms): "r|workflow|step", a retry; "l|workflow|step", a lease;
#         "w|workflow", the first of what its waits have to have done; "u|workflow", what is left to
#         be walked; "x|workflow", the end of its retention; "s|digest", a topic's hand-off, or the
#         end of the oldest signal it keeps
# index   sorted set: "group|inserted|workflow", group "o" for open or the code of a terminal state
# stats   hash: the fleet's counters and gauges; and the round of each urgency
# log     list: evidence of commands on workflows that do not exist
# keys    hash: insert keys, as digests
# staged  sorted set by the time (ms) when they are given up: ids of unfinished inserts
# outbox  sorted set by due time (ms): "workflow|number", callbacks to be sent
# reserved sorted set by the time (ms) when they go back: entries of ready that a claimer has taken
# served  sorted set by time (ms): queues, when somebody last asked for their steps, to some seconds
# tags    sorted set: "key=value|inserted|workflow", an entry for each tag, percent-quoted
PARTITION_SLOTS: Final = (
    "ready", "timers", "index", "stats", "log", "keys", "staged", "outbox", "reserved", "served",
    "tags",
)  # fmt: skip

# w  hash: the header and a record for each step
# p  hash: payloads, contexts, result rows, command ids, pauses and long edge lists
# e  list: evidence of what was accepted
# n  list: evidence of what was refused or repeated
# d  sorted set by due time (ms): what its waits have to have done
WORKFLOW_SLOTS: Final = ("w", "p", "e", "n", "d")

TOPIC_KEYS: Final = ("sig", "reg")
