"""Every server function, declared: its name, arguments and reply. One module per subject."""

from rwf.protocol.declare import FUNCTIONS
from rwf.protocol.functions import (
    appending,
    callbacks,
    children,
    claims,
    commands,
    completion,
    inserts,
    namespace,
    prune,
    reads,
    repairs,
    statistics,
    sweeps,
    timers,
    topics,
    waits,
    workflows,
)

__all__ = [
    "FUNCTIONS",
    "appending",
    "callbacks",
    "children",
    "claims",
    "commands",
    "completion",
    "inserts",
    "namespace",
    "prune",
    "reads",
    "repairs",
    "statistics",
    "sweeps",
    "timers",
    "topics",
    "waits",
    "workflows",
]
