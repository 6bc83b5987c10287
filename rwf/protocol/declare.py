"""How a server function is declared: what it takes, and what it answers.

A declaration is a class under :func:`server_function`. Its fields, in their order, are the
arguments; the type that it is generic in is the reply. Nothing else says which argument stands
where: the client encodes a call and decodes its reply by the declaration, and Lua's side, which
hands the arguments to the function by name, is generated from it (``rwf.protocol.lua_arguments``).

Evolution: a new argument is appended, with a default, as is a new field of a reply. A reply's
fields that this release does not know are ignored; those that an older release does not send have
their defaults.
"""

from __future__ import annotations

import dataclasses
import operator
import types
import typing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

Arg = str | bytes | int
Decoder = Callable[[Any], Any]
R = TypeVar("R")
F = TypeVar("F", bound="ServerFunction[Any]")
E = TypeVar("E", bound="Item")

_NOTHING: Final = ""
_REJECTED: Final = b"rejected"


class Refusal(NamedTuple):
    """The reply of a command that was refused. ``outcome`` is ``rejected``; ``stamp``: when, as
    evidence has it; ``next_steps``: those that the reason alone does not tell, with commas."""

    outcome: str
    reason: str
    stamp: str
    message: str
    next_steps: str = ""


class Item:
    """Base of the elements of list arguments, which :func:`item` makes of its subclasses."""

    packed: ClassVar[int]
    values: ClassVar[Callable[[Any], tuple[Any, ...]]]
    """All fields of an element, in their order."""


class ServerFunction(Generic[R]):
    """Base of all declarations, which :func:`server_function` makes of its subclasses."""

    name: ClassVar[str]
    publishes: ClassVar[bool]
    reads_only: ClassVar[bool]
    when_full: ClassVar[bool]
    parameters: ClassVar[tuple[Parameter, ...]]
    decode: ClassVar[Decoder]

    def arguments(self) -> list[Arg]:
        """What goes over the wire behind the keys, but for what the transport fills in."""
        found: list[Arg] = []
        for parameter in self.parameters:
            parameter.encode(getattr(self, parameter.name), found)
        return found

    @classmethod
    def decoded(cls, raw: Any) -> R:
        """A reply as its declared type; raises ValueError or TypeError for what is none."""
        reply: R = cls.decode(raw)
        return reply


FUNCTIONS: Final[dict[str, type[ServerFunction[Any]]]] = {}
"""All declared functions by name."""


@typing.dataclass_transform(frozen_default=True)
def server_function(
    name: str, *, publishes: bool = False, reads_only: bool = False, when_full: bool = False
) -> Callable[[type[F]], type[F]]:
    """Declares a function of the library under this name.

    ``publishes``: it may publish hints or leave evidence; its first two arguments are then the
    publishing verb and whether the call was sent before, filled in by the transport, and Lua's side
    receives an open transaction in place of the keys. ``reads_only``: registered as ``no-writes``.
    ``when_full``: carried out past ``maxmemory`` too (``allow-oom``), as it only frees, repairs or
    finishes.
    """

    def declare(cls: type[F]) -> type[F]:
        """Raises TypeError for a declaration that cannot be sent or answered."""
        if name in FUNCTIONS:
            raise TypeError(f"there is a function named {name!r} already")
        declared = dataclasses.dataclass(frozen=True, slots=True)(cls)
        declared.name, declared.publishes = name, publishes
        declared.reads_only, declared.when_full = reads_only, when_full
        declared.parameters = _parameters(declared)
        declared.decode = staticmethod(_reply_decoder(declared))
        FUNCTIONS[name] = declared
        return declared

    return declare


@typing.dataclass_transform()
def item(*, packed: int = 0) -> Callable[[type[E]], type[E]]:
    """Declares the elements of a list argument, whose fields travel in their order.

    The first ``packed`` fields travel as one text, separated by commas, which none of them may
    hold: one argument less costs the server less than taking the text apart.
    """

    def declare(cls: type[E]) -> type[E]:
        declared: Any = dataclasses.dataclass(slots=True)(cls)
        declared.packed = packed
        names = [field.name for field in dataclasses.fields(declared)]
        if len(names) == 1:
            raise TypeError(f"{cls.__name__} has one field: a list of its values will do")
        declared.values = operator.attrgetter(*names)
        made: type[E] = declared
        return made

    return declare


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: its name, how it is sent, and how Lua reads it from a text."""

    name: str
    kind: type
    optional: bool
    items: type | None
    """Of a list: what its elements are."""
    last: bool
    """Whether nothing follows: a list that is last needs no count."""

    def encode(self, value: Any, into: list[Arg]) -> None:
        """Appends what is sent for a value."""
        if self.items is None:
            into.append(_sent(value))
            return
        if not self.last:
            into.append(len(value))
        if self.items not in _PLAIN:
            for element in value:
                into += item_arguments(element)
        else:
            into += value


def _sent(value: Any) -> Arg:
    if value is None or value is False:
        return _NOTHING
    return "1" if value is True else value


def item_arguments(element: Any) -> list[Arg]:
    """What is sent for an element of a list."""
    fields, packed = type(element).values(element), element.packed
    # Most are texts, which are sent as they are.
    values = [value if value.__class__ is str else _sent(value) for value in fields]
    if packed:
        values[:packed] = [",".join(map(str, values[:packed]))]
    return values


def _parameters(function: Any) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(function)
    names = [field.name for field in dataclasses.fields(function)]
    return tuple(
        _parameter(name, hints[name], last=number == len(names))
        for number, name in enumerate(names, 1)
    )


def _parameter(name: str, hint: Any, *, last: bool) -> Parameter:
    if typing.get_origin(hint) is Sequence:
        (items,) = typing.get_args(hint)
        if items not in (str, bytes, int) and not issubclass(items, Item):
            raise TypeError(f"{name}: a list of {items} cannot be sent")
        return Parameter(name, Sequence, False, items, last)
    kind, optional = _optional(hint)
    if kind not in (str, bytes, int, bool):
        raise TypeError(f"{name}: {hint} cannot be sent")
    return Parameter(name, kind, optional, None, last)


def item_fields(items: Any) -> list[tuple[str, type, bool]]:
    """The fields of a list's elements: name, type, and whether they may be None."""
    hints = typing.get_type_hints(items)
    return [(field.name, *_optional(hints[field.name])) for field in dataclasses.fields(items)]


def _optional(hint: Any) -> tuple[type, bool]:
    if isinstance(hint, types.UnionType):
        (kind,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
        return kind, True
    return hint, False


# --- replies


def _reply_decoder(function: Any) -> Decoder:
    for base in function.__orig_bases__:
        if typing.get_origin(base) is ServerFunction:
            return decoder_of(typing.get_args(base)[0])
    raise TypeError(f"{function.__name__} does not say what it answers")


def _as_is(raw: Any) -> Any:
    return raw


_PLAIN: Final[dict[Any, Decoder]] = {
    Any: _as_is,
    bytes: _as_is,
    int: int,
    str: bytes.decode,
    bool: lambda raw: raw in (b"1", 1),
    types.NoneType: lambda _: None,
}


@cache
def decoder_of(hint: Any) -> Decoder:
    """What makes a reply of a declared type out of what redis-py returns.

    An optional value is None where Lua answered nil or false, and a number also where it answered
    an empty text. Where a union has :class:`Refusal`, the reply's first field says which it is.
    """
    if hint in _PLAIN:
        return _PLAIN[hint]
    if typing.get_origin(hint) is list:
        return _list_decoder(decoder_of(*typing.get_args(hint)))
    kinds = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else set()
    if Refusal in kinds and types.NoneType not in kinds:
        (answer,) = kinds - {Refusal}
        return _refusable_decoder(decoder_of(answer), decoder_of(Refusal))
    if isinstance(hint, types.UnionType):
        kind, _ = _optional(hint)
        return _optional_decoder(kind, decoder_of(kind))
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return _tuple_decoder(hint)
    raise TypeError(f"{hint} cannot be decoded")


def _list_decoder(decode: Decoder) -> Decoder:
    if decode is _as_is:
        return list
    return lambda raw: [decode(each) for each in raw]


def _optional_decoder(kind: type, decode: Decoder) -> Decoder:
    if decode is _as_is:
        return _as_is
    if kind is int:
        return lambda raw: None if raw is None or raw == b"" else int(raw)
    return lambda raw: None if raw is None else decode(raw)


def _refusable_decoder(answer: Decoder, refusal: Decoder) -> Decoder:
    return lambda raw: refusal(raw) if raw[0] == _REJECTED else answer(raw)


def _tuple_decoder(reply: Any) -> Decoder:
    hints = typing.get_type_hints(reply)
    decoders = [decoder_of(hints[name]) for name in reply._fields]
    count = len(decoders)
    others = [(at, decode) for at, decode in enumerate(decoders) if decode is not _as_is]
    if not others:
        return lambda raw: reply(*raw[:count])

    def decoded(raw: Any) -> Any:
        # A shorter reply comes from an older release: its missing fields have their defaults.
        values = list(raw[:count])
        for at, decode in others:
            if at < len(values):
                values[at] = decode(values[at])
        return reply(*values)

    return decoded
