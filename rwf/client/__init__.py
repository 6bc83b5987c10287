# Made of rwf/aio/__init__.py by tools/blocking.py: do not edit.
"""The blocking client."""

from rwf.client.client import Client

__all__ = ["Client"]
