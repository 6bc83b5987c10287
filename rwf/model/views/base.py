"""The base of all views, and lists that may be incomplete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class View(BaseModel):
    """Base of all views."""

    model_config = ConfigDict(frozen=True)


class PartialList(list[T]):
    """A list of what could be reached: all of it, unless ``unreachable`` names partitions that did
    not answer."""

    def __init__(self, items: Iterable[T] = (), unreachable: Iterable[int] = ()) -> None:
        super().__init__(items)
        self.unreachable: tuple[int, ...] = tuple(unreachable)
