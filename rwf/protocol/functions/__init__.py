"""Every server function, declared: its name, arguments and reply. One module per subject."""

from rwf.protocol.declare import FUNCTIONS
from rwf.protocol.functions import claims, completion, namespace, repairs, waits, workflows

__all__ = ["FUNCTIONS", "claims", "completion", "namespace", "repairs", "waits", "workflows"]
