"""Conditions on the results of other steps, which ``when=`` of a step takes.

A condition is stored as JSON: a list that begins with its operator.

    ["==", {"$result": "check", "path": "status"}, "declined"]     also != < <= > >= in
    ["exists", {"$result": "check", "path": "note"}]
    ["and", condition, condition, ...]    ["or", condition, condition, ...]    ["not", condition]

Values are compared as JSON has them: nothing is converted, ``true`` is not 1, integers are exact
whatever their size, and 1 equals 1.0, as both are numbers. Only two numbers, or two strings, have
an order. A path that leads nowhere makes any comparison false.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Never

import orjson

from rwf.errors import WorkflowInvalid
from rwf.model.names import shown
from rwf.model.payload import encode
from rwf.model.references import Ref
from rwf.model.result_refs import ResultMissing, value_at

MAX_DEPTH: Final = 50
MAX_PARTS: Final = 1_000

_ORDERING: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARING: Final = frozenset({"==", "!=", *_ORDERING})
_JOINING: Final = {"and": " and ", "or": " or "}
_MISSING: Final = object()
_LONGEST_SHOWN: Final = 100


class Condition:
    """A condition on results, made by comparing :func:`result` with a JSON value, and by ``&``,
    ``|`` and ``~`` of conditions.

    It has no truth of its own before there are results: ``and``, ``or``, ``not``, chains such as
    ``1 < result("a") < 3`` and ``if`` raise TypeError.
    """

    __slots__ = ("form",)

    def __init__(self, form: list[Any]) -> None:
        self.form = form
        """The stored form, references and values in it as the user gave them."""

    def __and__(self, other: Condition) -> Condition:
        return self._joined("and", other)

    def __or__(self, other: Condition) -> Condition:
        return self._joined("or", other)

    def __invert__(self) -> Condition:
        return Condition(["not", self.form])

    def _joined(self, word: str, other: object) -> Condition:
        if not isinstance(other, Condition):
            raise TypeError(f"a condition is joined with another one, not with {shown(other)}")
        return Condition([word, *self._parts(word), *other._parts(word)])

    def _parts(self, word: str) -> list[Any]:
        return self.form[1:] if self.form[0] == word else [self.form]

    def __bool__(self) -> Never:
        raise TypeError(
            "a condition is judged when its step is claimed: join conditions with &, | and ~,"
            " each in parentheses, not with 'and', 'or' and 'not'"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Condition):
            return NotImplemented
        return self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # its values may be lists

    def __repr__(self) -> str:
        return f"<Condition: {described(self.to_json())}>"

    def to_json(self) -> list[Any]:
        """The stored form, with references as objects."""
        return _stored(self.form)


class ResultRef(Ref):
    """The result of a step: it stands in an input for itself, and makes conditions."""

    __slots__ = ()

    def _compared(self, sign: str, value: object) -> Condition:
        if isinstance(value, Ref | Condition):
            raise TypeError("a result is compared with a JSON value, not with another result")
        return Condition([sign, self, value])

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Ref):
            return (self.step, self.path) == (other.step, other.path)
        return self._compared("==", other)

    def __ne__(self, other: object) -> Any:
        if isinstance(other, Ref):
            return (self.step, self.path) != (other.step, other.path)
        return self._compared("!=", other)

    def __hash__(self) -> int:
        return hash((self.step, self.path))

    def __lt__(self, other: object) -> Condition:
        return self._compared("<", other)

    def __le__(self, other: object) -> Condition:
        return self._compared("<=", other)

    def __gt__(self, other: object) -> Condition:
        return self._compared(">", other)

    def __ge__(self, other: object) -> Condition:
        return self._compared(">=", other)

    def __bool__(self) -> Never:
        raise TypeError(
            "a result is known when its step has run: compare it, as in result('a') > 1"
        )

    def in_(self, values: Iterable[Any]) -> Condition:
        """The condition that the result equals one of these JSON values."""
        return Condition(["in", self, list(values)])

    def exists(self) -> Condition:
        """The condition that the step has a result, and the path leads to a value in it, be it
        null."""
        return Condition(["exists", self])


def result(step: str, path: str | list[str | int] | None = None) -> ResultRef:
    """Stands in an input for the result of ``step``, or for what it holds at a path.

    The path is dotted (``"items.0.name"``) or a list (``["items", 0, "first.name"]``), where names
    hold dots. It is filled in when the step that holds it is claimed. Compared with a JSON value,
    it makes a :class:`Condition`. Raises as :class:`Ref` does.
    """
    return ResultRef(step, tuple(path) if isinstance(path, list) else path)


def captured(
    condition: Condition | list[Any], step: str, path: str, max_bytes: int
) -> tuple[bytes, tuple[str, ...]]:
    """A condition as it is stored, and the steps that it refers to, each once.

    ``condition`` may be a stored form as JSON has it; ``step`` is whose it is, and ``path`` what
    error paths start with. Raises :class:`WorkflowInvalid`: ``invalid_step_definition``, what
    :class:`Ref` raises, and what :func:`encode` raises.
    """
    form = condition.to_json() if isinstance(condition, Condition) else condition
    _Check(step, path, max_bytes).condition(form, 1)
    encoded = encode(form, path=path, max_bytes=max_bytes, reserve=False)
    return encoded, tuple(dict.fromkeys(ref.step for ref in references_in(form)))


class _Check:
    """The check of one step's condition."""

    def __init__(self, step: str, path: str, max_bytes: int) -> None:
        self._step = step
        self._path = path
        self._max_bytes = max_bytes
        self._parts = 0

    def condition(self, form: object, depth: int) -> None:
        self._parts += 1
        if not isinstance(form, list) or not form or not isinstance(form[0], str):
            self._refuse(f"not a condition: {shown(form)}")
        if depth > MAX_DEPTH or self._parts > MAX_PARTS:
            self._refuse(f"more than {MAX_PARTS} parts, or nested deeper than {MAX_DEPTH}")
        sign, *rest = form
        if (sign in _JOINING and len(rest) > 1) or (sign == "not" and len(rest) == 1):
            for part in rest:
                self.condition(part, depth + 1)
        elif self._compares(sign, rest):
            self._reference(rest[0])
            encode(rest[1:], path=self._path, max_bytes=self._max_bytes)
        else:
            self._refuse(f"no operator with {len(rest)} operands: {shown(sign)}")

    def _compares(self, sign: str, rest: list[Any]) -> bool:
        """Whether ``sign`` compares a result, and ``rest`` is a reference and what it is compared
        with."""
        if sign == "exists":
            return len(rest) == 1
        return len(rest) == 2 and (
            sign in _COMPARING or (sign == "in" and isinstance(rest[1], list))
        )

    def _reference(self, form: object) -> None:
        if not isinstance(form, dict) or Ref.of_dict(form) is None:
            self._refuse(f"not a result reference: {shown(form)}")

    def _refuse(self, problem: str) -> Never:
        raise WorkflowInvalid(
            "invalid_step_definition",
            f"the condition of step {self._step!r}: {problem}",
            step=self._step,
        )


def references_in(form: list[Any]) -> Iterator[Ref]:
    """The references in a stored condition, in order."""
    sign, *rest = form
    if sign in _JOINING or sign == "not":
        for part in rest:
            yield from references_in(part)
    else:
        yield _ref(rest[0])


def holds(form: list[Any], results: Mapping[str, Any], null: frozenset[str]) -> bool:
    """Whether a stored condition holds.

    ``results`` has the decoded results by step; a reference to a step in ``null`` is null. Raises
    :class:`ResultMissing` for a step that is in neither.
    """
    sign, *rest = form
    if sign == "not":
        return not holds(rest[0], results, null)
    if sign == "and":
        return all(holds(part, results, null) for part in rest)
    if sign == "or":
        return any(holds(part, results, null) for part in rest)
    ref = _ref(rest[0])
    if sign == "exists":
        return ref.step not in null and _found(ref, results, null) is not _MISSING
    found = _found(ref, results, null)
    if found is _MISSING:
        return False
    if sign == "in":
        return any(_equal(found, value) for value in rest[1])
    if sign in _ORDERING:
        return _are_ordered(found, rest[1]) and bool(_ORDERING[sign](found, rest[1]))
    return _equal(found, rest[1]) is (sign == "==")


def described(form: list[Any]) -> str:
    """A stored condition for people."""
    sign, *rest = form
    if sign == "not":
        return f"not {_in_parentheses(rest[0])}"
    if sign in _JOINING:
        return _JOINING[sign].join(map(_in_parentheses, rest))
    ref = _ref(rest[0])
    name = f"the result of {ref.step}{ref.place}"
    return f"{name} exists" if sign == "exists" else f"{name} {sign} {_text_of(rest[1])}"


def _text_of(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _in_parentheses(form: list[Any]) -> str:
    return f"({described(form)})" if form[0] in _JOINING else described(form)


def _stored(form: list[Any]) -> list[Any]:
    sign, *rest = form
    if sign in _JOINING or sign == "not":
        return [sign, *map(_stored, rest)]
    ref = rest[0]
    return [sign, ref.to_dict() if isinstance(ref, Ref) else ref, *rest[1:]]


def _ref(form: dict[str, Any]) -> Ref:
    ref = Ref.of_dict(form)
    assert ref is not None, "an insert refuses what is no reference"
    return ref


def _found(ref: Ref, results: Mapping[str, Any], null: frozenset[str]) -> Any:
    """The value of a reference."""
    if ref.step in null:
        return None if ref.path is None else _MISSING
    if ref.step not in results:
        raise ResultMissing(ref)
    try:
        return value_at(results[ref.step], ref)
    except ResultMissing:
        return _MISSING


def _equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, to any depth. It does not recurse, as data may be deep."""
    pending = [(one, other)]
    while pending:
        left, right = pending.pop()
        if _is_number(left) or _is_number(right):
            if not (_is_number(left) and _is_number(right) and left == right):
                return False
        elif type(left) is not type(right):
            return False
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            pending += zip(left, right, strict=True)
        elif isinstance(left, dict):
            if left.keys() != right.keys():
                return False
            pending += ((left[key], right[key]) for key in left)
        elif left != right:
            return False
    return True


def _are_ordered(one: Any, other: Any) -> bool:
    strings = isinstance(one, str) and isinstance(other, str)
    return strings or (_is_number(one) and _is_number(other))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
