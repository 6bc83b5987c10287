"""The numbers that bound a call, a list or a graph (contract §3, §4, §7, §9 and §11)."""

from __future__ import annotations

from typing import Final

MAX_STEPS: Final = 200_000
MAX_PAYLOAD: Final = 262_144

# Step names or edges in one stored chunk, and edges that a step's own record may hold.
CHUNK: Final = 200
INLINE_EDGES: Final = 64
INLINE_BYTES: Final = 1024
# Edges that one server call walks: one full chunk, about 3 ms (the contract allows 500). What is
# beyond is moved in further calls.
EDGES_PER_CALL: Final = CHUNK
# Bounds of a reply that hands out steps, for the results to which their inputs refer: references,
# and bytes of results; and for the bytes of their own payloads, which are read in vain when they
# are more.
REFERENCES_TOLD: Final = 64
RESULTS_TOLD: Final = 262_144
OTHERS_TOLD: Final = 524_288
# Bytes of an input with the results that it refers to, each counted once (the default).
MAX_INPUT: Final = 16_777_216
# Completions, claims or heartbeats in one batch.
ITEMS_PER_CALL: Final = 64
# Names, dependencies or root causes that a reply lists; the count beside them is exact.
LISTED: Final = 1_000
# How many items and bytes a reply holds that grows with the data; one larger item comes alone. With
# what frames them this stays below 1 MiB.
REPLY_ITEMS: Final = 500
REPLY_BYTES: Final = 1_000_000
# Entries of evidence kept for each workflow, and in a partition's log of unknown workflows.
EVIDENCE_KEPT: Final = 10_000
# Failures after which a callback is dead (contract §6).
CALLBACK_ATTEMPTS: Final = 20
# For how long after the end of its retention a workflow is kept for callbacks that a dispatcher has
# still to deliver, in milliseconds: 7 days. Then they are dead.
CALLBACK_KEPT_MS: Final = 604_800_000
# Handlers of callbacks that one dispatcher has at work at the same time.
CALLBACKS_AT_ONCE: Final = 100

# How long an insert may take, in milliseconds: what it has staged or reserved is then given up, and
# an id that was made unusable, because of an insert that may still be under way, is free of it.
INSERT_MS: Final = 600_000
# How long a signal that no workflow took is kept (contract §10), in milliseconds: 7 days.
SIGNAL_KEPT_MS: Final = 604_800_000

# How long a bulk session is kept once it is done (milliseconds: 30 days).
BULK_KEPT_MS: Final = 2_592_000_000
# Steps of one workflow and class that share a round of the ready queue (contract §8).
ROUND_SHARE: Final = 100
# In which whoever has begun something in several calls normally goes on with it (milliseconds);
# then others do.
GRACE_MS: Final = 1_000
# How long after its timeout the server takes a step's lease away, when nobody has reported
# (milliseconds).
TIMEOUT_GRACE_MS: Final = 1_000
# How long a step pauses that a worker could not begin, the first time and at most (milliseconds);
# each pause in a row is twice as long as the last.
FIRST_PAUSE_MS: Final = 500
LONGEST_PAUSE_MS: Final = 30_000
# How far the times of a workflow may lie ahead of the server's clock, in milliseconds: what lies
# further ahead was written before the clock was set back.
AHEAD_MS: Final = 1_000
# How long an entry of the ready queue is kept for the claimer that has taken it (milliseconds).
RESERVED_MS: Final = 5_000
# How old the note of who asked a queue for steps may be before the next to ask renews it
# (milliseconds): idle workers ask often, and each note is a write.
SERVED_NOTED_MS: Final = 10_000
# How old the note that a namespace has a dispatcher may be before it is renewed (milliseconds).
DISPATCHER_NOTED_MS: Final = 10_000
# For how long it is kept that somebody has asked a queue for steps (milliseconds: 30 days), and of
# how many queues at most; the longest unasked go first.
SERVED_KEPT_MS: Final = 2_592_000_000
SERVED_KEPT: Final = 10_000
# Queues that one claim may ask.
QUEUES_PER_CLAIM: Final = 256
# How long a worker that was not seen again is still listed (milliseconds: an hour), and how many of
# a partition at most; the longest unseen go first.
WORKERS_KEPT_MS: Final = 3_600_000
WORKERS_KEPT: Final = 10_000
# Bytes of a worker's names (queues, handlers) that are told; their counts are exact.
WORKER_NAMES: Final = 4_096
# Names of queues, and of workflows with each of their ends, that a partition counts apart; those
# that come later are counted together. Minutes of which it is counted what has ended by queue.
NAMES_COUNTED: Final = 200
MINUTES_COUNTED: Final = 8
