"""Every server function, declared: its name, arguments and reply. One module per subject."""

from rwf.protocol.declare import FUNCTIONS
from rwf.protocol.functions import (
    callbacks,
    commands,
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
    "commands",
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
