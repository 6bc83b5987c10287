"""Every server function, declared: its name, arguments and reply. One module per subject."""

from rwf.protocol.declare import FUNCTIONS
from rwf.protocol.functions import (
    callbacks,
    claims,
    commands,
    completion,
    inserts,
    namespace,
    prune,
    reads,
    repairs,
    sweeps,
    topics,
    waits,
    workflows,
)

__all__ = [
    "FUNCTIONS",
    "callbacks",
    "claims",
    "commands",
    "completion",
    "inserts",
    "namespace",
    "prune",
    "reads",
    "repairs",
    "sweeps",
    "topics",
    "waits",
    "workflows",
]
