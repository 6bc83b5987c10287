"""The daemon: carries out what is due, and restores from the records what is derived of them."""

from rwf.reconciler.daemon import Reconciler

__all__ = ["Reconciler"]
