"""The ids that workers have when they are given none."""

from __future__ import annotations

import os
import secrets
import socket


def new_worker_id() -> str:
    """An id that tells the machine and the process, and is no other worker's."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
