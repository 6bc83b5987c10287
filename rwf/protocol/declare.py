"""Declarations of server functions: their arguments and replies.

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
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from rwf.errors import RecordUnreadable
from rwf.protocol.codecs import UNREADABLE

Arg = str | bytes | int
Encoder = Callable[[Any], list[Arg]]
Decoder = Callable[[Any], Any]
R = TypeVar("R")
F = TypeVar("F", bound="ServerFunction[Any]")
E = TypeVar("E", bound="Item")

_REJECTED: Final = b"rejected"
_SENT: Final = (str, bytes, int, bool)
_LISTED: Final = (str, bytes, int)
# How a reply's value is decoded, as source.
_PLAIN: Final[dict[Any, str]] = {
    Any: "{}",
    bytes: "{}",
    int: "int({})",
    str: "text({})",
    bool: '{} in (b"1", 1)',
    types.NoneType: "None",
}


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


class ServerFunction(Generic[R]):
    """Base of all declarations, which :func:`server_function` makes of its subclasses."""

    name: ClassVar[str]
    publishes: ClassVar[bool]
    reads_only: ClassVar[bool]
    when_full: ClassVar[bool]
    parameters: ClassVar[tuple[Parameter, ...]]
    encode: ClassVar[Encoder]
    decode: ClassVar[Decoder]

    def arguments(self) -> list[Arg]:
        """The arguments as sent, after the keys, without those that the transport adds."""
        return type(self).encode(self)

    @classmethod
    def decoded(cls, raw: Any) -> R:
        """A reply as its declared type; raises ValueError or TypeError for a reply of another
        form, and RecordUnreadable for a stored text in it that is not UTF-8."""
        try:
            reply: R = cls.decode(raw)
        except UnicodeDecodeError as error:
            raise RecordUnreadable(UNREADABLE) from error
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
    finishes what is on record: without these memory would never become free again.
    """

    def declare(cls: type[F]) -> type[F]:
        """Raises TypeError for a declaration that cannot be sent or answered."""
        if name in FUNCTIONS:
            raise TypeError(f"there is a function named {name!r} already")
        declared = dataclasses.dataclass(frozen=True, slots=True)(cls)
        declared.name, declared.publishes = name, publishes
        declared.reads_only, declared.when_full = reads_only, when_full
        declared.parameters = _parameters(declared)
        declared.encode = staticmethod(_encoder(declared))
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
        declared = dataclasses.dataclass(slots=True)(cls)
        declared.packed = packed
        if len(dataclasses.fields(declared)) == 1:  # type: ignore[arg-type]
            raise TypeError(f"{cls.__name__} has one field: a list of its values will do")
        return declared

    return declare


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One argument: its name, how it is sent, and how Lua reads it from a text."""

    name: str
    kind: type
    optional: bool
    items: type | None
    """The elements of a list."""
    last: bool
    """Whether it is the last: a list that is last needs no count."""


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
        if items not in _LISTED and not issubclass(items, Item):
            raise TypeError(f"{name}: a list of {items} cannot be sent")
        return Parameter(name, Sequence, False, items, last)
    kind, optional = _optional(hint)
    if kind not in _SENT:
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


def _made(name: str, source: str, names: dict[str, Any]) -> Callable[[Any], Any]:
    """A function from its source, in which these names are known.

    Codecs are written out once for each declaration, as the methods of dataclasses are: to look up
    how each of a call's hundreds of values is declared would double what they cost.
    """
    exec(compile(source, f"<{name}>", "exec"), names)  # noqa: S102 - of identifiers alone
    made: Callable[[Any], Any] = names["made"]
    return made


# --- arguments


def _encoder(function: type[ServerFunction[Any]]) -> Encoder:
    source = "\n    ".join(["def made(call):", *_encoder_lines(function.parameters)])
    return _made(f"arguments of {function.name}", source, {})


def _encoder_lines(parameters: Sequence[Parameter]) -> Iterator[str]:
    """Appends each argument to those before."""
    yield "sent = []"
    for parameter in parameters:
        value = f"call.{parameter.name}"
        if parameter.items is None:
            yield f"sent.append({_sent(value, parameter.kind, parameter.optional)})"
            continue
        if not parameter.last:
            yield f"sent.append(len({value}))"
        if parameter.items in _LISTED:
            yield f"sent += {value}"
        else:
            yield f"for each in {value}:"
            yield f"    sent += ({', '.join(_element(parameter.items))},)"
    yield "return sent"


def _element(items: Any) -> Iterator[str]:
    """The source of what is sent for an element of a list."""
    values = [(kind, _sent(f"each.{name}", kind, opt)) for name, kind, opt in item_fields(items)]
    if packed := values[: items.packed]:
        if bytes in [kind for kind, _ in packed]:
            raise TypeError(f"{items.__name__}: bytes cannot be packed")
        yield "f'" + ",".join(f"{{{value}}}" for _, value in packed) + "'"
    for _, value in values[items.packed :]:
        yield value


def _sent(value: str, kind: type, optional: bool) -> str:
    """The source of what is sent for a value."""
    if kind is bool:
        return f'"1" if {value} else ""'
    return f'"" if {value} is None else {value}' if optional else value


# --- replies


def _reply_decoder(function: Any) -> Decoder:
    for base in function.__orig_bases__:
        if typing.get_origin(base) is ServerFunction:
            return decoder_of(typing.get_args(base)[0])
    raise TypeError(f"{function.__name__} does not say what it answers")


@cache
def decoder_of(hint: Any) -> Decoder:
    """A decoder from redis-py's reply to the declared type.

    Where Lua answered nil or false, an optional value is None, and a list has nothing in it, as an
    empty table costs the server more; a number is None also where it answered an empty text. Where
    a union has :class:`Refusal`, the reply's first field says which it is.
    """
    if _is_tuple(hint):
        return _tuple_decoder(hint)
    names = {"text": bytes.decode}
    return _made(f"reply {hint}", f"def made(raw): return {_decoded('raw', hint, names)}", names)


def _decoded(value: str, hint: Any, names: dict[str, Any]) -> str:
    """The source of a value decoded; adds to ``names`` the decoders that it calls."""
    if hint in _PLAIN:
        return _PLAIN[hint].format(value)
    if typing.get_origin(hint) is list:
        (element,) = typing.get_args(hint)
        each = _decoded("each", element, names)
        return f"[{each} for each in {value} or ()]" if each != "each" else f"list({value} or ())"
    kinds = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else set()
    if Refusal in kinds and kinds != {Refusal, types.NoneType}:
        (answer,) = kinds - {Refusal, types.NoneType}
        either = _decoded(value, Refusal, names) + f" if {value}[0] == {_REJECTED!r} else "
        either += _decoded(value, answer, names)
        return f"None if {value} is None else {either}" if types.NoneType in kinds else either
    if kinds:
        kind, _ = _optional(hint)
        none = f'{value} is None or {value} == b""' if kind is int else f"{value} is None"
        return f"None if {none} else {_decoded(value, kind, names)}"
    if _is_tuple(hint):
        name = f"{hint.__name__}_{len(names)}"
        names[name] = decoder_of(hint)
        return f"{name}({value})"
    raise TypeError(f"{hint} cannot be decoded")


def _is_tuple(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _tuple_decoder(reply: Any) -> Decoder:
    names = {"reply": reply, "new": tuple.__new__, "text": bytes.decode}
    hints, defaults = typing.get_type_hints(reply), reply._field_defaults
    values = []
    for at, name in enumerate(reply._fields):
        value = _decoded(f"raw[{at}]", hints[name], names)
        # A shorter reply comes from an older release, or says that the rest is not there.
        if name in defaults:
            value = f"({value}) if given > {at} else {defaults[name]!r}"
        values.append(value)
    least = len(values) - len(defaults)
    source = f"""def made(raw):
    given = len(raw)
    if given < {least}:
        raise TypeError(f"a reply of {{given}} fields, not {least} or more")
    return new(reply, ({", ".join(values)},))"""
    return _made(f"reply {reply.__name__}", source, names)
