"""User values as JSON bytes: what may be stored, and how it is written and read.

A value is checked before it is encoded, because orjson coerces what must be refused: it writes NaN
as null and enums as their values. The check walks with a stack of its own, in document order, so
that neither deep nor cyclic data can exhaust Python's stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Final, Never

import orjson

from rwf.errors import WorkflowInvalid
from rwf.model.names import shown
from rwf.model.references import (
    OUTCOME_KEY,
    RESULT_KEY,
    RESULTS_KEY,
    AnyRef,
    OutcomeRef,
    Ref,
    ResultsRef,
)

MAX_DEPTH: Final = 200
MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**64 - 1

_OPTIONS: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
_MAX_PATH: Final = 400
_RESERVED: Final[dict[str, type[AnyRef]]] = {
    RESULT_KEY: Ref,
    OUTCOME_KEY: OutcomeRef,
    RESULTS_KEY: ResultsRef,
}

_Key = str | int
_Items = Iterator[tuple[_Key, Any]]


def encode(
    value: Any,
    *,
    path: str,
    max_bytes: int,
    refs: list[AnyRef] | None = None,
    ref_objects: bool = False,
    reserve: bool = True,
) -> bytes:
    """Compact JSON of ``value``, with keys in insertion order.

    Values are exactly dict (with str keys), list, str, int, float, bool or None, nested at most 200
    deep; integers fit in 64 bits (-2**63 to 2**64-1), floats are finite, text has no lone
    surrogates. ``path`` is what error paths start with, ``$`` for example.

    ``refs`` collects the references that the value holds, at any depth; None allows none. With
    ``ref_objects`` they are written as in the stored form, ``{"$result": "step"}`` for example,
    rather than as :class:`Ref`, :class:`OutcomeRef` or :class:`ResultsRef`.

    Without ``reserve`` these three keys are like any other, as in results: these are never searched
    for them.

    Raises :class:`WorkflowInvalid`, its details with the ``path``: ``non_serializable_payload``;
    ``reserved_key`` for one of the three keys in data; ``payload_too_large`` for more than
    ``max_bytes`` bytes (details ``bytes``, a lower bound when the check could stop early, and
    ``limit``); and what :class:`Ref` raises for a bad name or path in a reference object.
    """
    _Check(path, max_bytes, refs, ref_objects, reserve).run(value)
    encoded = orjson.dumps(value, default=_stored_form, option=_OPTIONS)
    check_size(len(encoded), path=path, max_bytes=max_bytes)
    return encoded


def decode(encoded: bytes) -> Any:
    """The value that :func:`encode` wrote; references come back in their stored form."""
    return orjson.loads(encoded)


def _stored_form(ref: AnyRef) -> dict[str, Any]:
    return ref.to_dict()


def check_size(size: int, *, path: str, max_bytes: int) -> None:
    """Raises :class:`WorkflowInvalid`, ``payload_too_large``, for more than ``max_bytes`` bytes."""
    if size > max_bytes:
        raise WorkflowInvalid(
            "payload_too_large",
            f"{path} takes {size} bytes or more, the limit is {max_bytes}",
            path=path,
            bytes=size,
            limit=max_bytes,
        )


class _Check:
    """One walk over one value."""

    __slots__ = (
        "_max_bytes",
        "_path",
        "_ref_objects",
        "_refs",
        "_reserve",
        "_size",
        "_stack",
        "_trail",
    )

    def __init__(
        self,
        path: str,
        max_bytes: int,
        refs: list[AnyRef] | None,
        ref_objects: bool,
        reserve: bool,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._refs = refs
        self._ref_objects = ref_objects
        self._reserve = reserve
        # A lower bound of the encoded size. A small value can hold the same list many times over
        # on each of many levels: the walk ends when the bound passes the limit, not when it is
        # through with all of them.
        self._size = 0
        self._stack: list[_Items] = []
        # The keys of the open containers in theirs; the first is the root's, and empty.
        self._trail: list[_Key] = []

    def run(self, value: Any) -> None:
        stack = self._stack
        self._descend(iter((("", value),)))
        while stack:
            if not self._descend(stack[-1]):
                stack.pop()
                self._trail.pop()

    def _descend(self, items: _Items) -> bool:
        """Checks items up to the first container, and opens that; False when there is none."""
        for key, item in items:
            kind = type(item)
            if kind is dict or kind is list:
                if self._enter(key, item):
                    return True
            elif kind is str:
                self._size += len(item)
                if not (item.isascii() or _encodable(item)):
                    self._refuse("text with a lone surrogate", key)
            elif kind is int:
                if not MIN_INT <= item <= MAX_INT:
                    self._refuse("an integer beyond 64 bits", key)
            elif kind is float:
                if not isfinite(item):
                    self._refuse(f"the number {item}", key)
            elif item is not None and kind is not bool:
                self._check_ref(key, item)
        return False

    def _enter(self, key: _Key, container: dict[Any, Any] | list[Any]) -> bool:
        """Opens a container; False when it is a reference, and there is nothing to walk."""
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(f"nesting deeper than {MAX_DEPTH}", key)
        if type(container) is dict:
            if self._reserve and not _RESERVED.keys().isdisjoint(container):
                self._take_ref_object(key, container)
                return False
            self._check_keys(key, container)
            self._stack.append(iter(container.items()))
        else:
            self._stack.append(iter(enumerate(container)))
        self._trail.append(key)
        # Each item takes a byte and a separator at least.
        self._size += 2 * len(container)
        check_size(self._size, path=self._path, max_bytes=self._max_bytes)
        return True

    def _check_keys(self, key: _Key, container: dict[Any, Any]) -> None:
        size = 0
        for name in container:
            if type(name) is not str:
                self._refuse(f"a key that is not a str: {shown(name)}", key)
            if not (name.isascii() or _encodable(name)):
                self._refuse("a key with a lone surrogate", key, name)
            size += len(name)
        self._size += size

    def _check_ref(self, key: _Key, item: object) -> None:
        if not isinstance(item, AnyRef):
            self._refuse(shown(item), key)
        if self._refs is None:
            self._refuse("a reference to a step, which only inputs may hold", key)
        # Its stored form is an object.
        if len(self._stack) >= MAX_DEPTH:
            self._refuse(f"nesting deeper than {MAX_DEPTH}", key)
        self._collect(item)

    def _take_ref_object(self, key: _Key, container: dict[Any, Any]) -> None:
        name = next(filter(container.__contains__, _RESERVED))
        ref = _RESERVED[name].of_dict(container) if self._ref_objects else None
        if ref is None or self._refs is None:
            path = self._path_to(key, name)
            raise WorkflowInvalid(
                "reserved_key", f"the key {name!r} is reserved: {path}", path=path
            )
        self._collect(ref)

    def _collect(self, ref: AnyRef) -> None:
        assert self._refs is not None
        path = ref.path if isinstance(ref, Ref) else None
        self._size += len(RESULT_KEY) + len(ref.step) + len(path or "")
        check_size(self._size, path=self._path, max_bytes=self._max_bytes)
        self._refs.append(ref)

    def _refuse(self, problem: str, *keys: _Key) -> Never:
        path = self._path_to(*keys)
        raise WorkflowInvalid("non_serializable_payload", f"{path}: {problem}", path=path)

    def _path_to(self, *keys: _Key) -> str:
        return path_text(self._path, [*self._trail, *keys][1:])


def path_text(start: str, keys: Iterable[_Key]) -> str:
    """Where in a value something stands, from ``start`` on; the middle of a long path is cut."""
    path = start + "".join(map(_path_part, keys))
    if len(path) <= _MAX_PATH:
        return path
    return f"{path[: _MAX_PATH // 2]}...{path[-_MAX_PATH // 2 :]}"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path_part(key: _Key) -> str:
    if type(key) is str and _IDENTIFIER.fullmatch(key):
        return f".{key}"
    return f"[{shown(key)}]"
