"""References to the results and the outcomes of other steps, as inputs hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from rwf.errors import WorkflowInvalid
from rwf.model.names import checked_name, shown

RESULT_KEY: Final = "$result"
OUTCOME_KEY: Final = "$outcome"
RESULTS_KEY: Final = "$results"
PATH_KEY: Final = "path"
MAX_PATH: Final = 1024
_LARGEST_INDEX: Final = 2**53

Path = str | tuple[str | int, ...]
"""Where in a result: field names with dots between them, or names and places in lists."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The durable result of ``step``, or what it holds at ``path``.

    A dotted path holds 1 to 1,024 characters and no empty field name; where the result has a list,
    a whole number indexes it. As a list it has field names, which may hold anything, and whole
    numbers from 0, which index lists: at least one, and 1,024 characters with one between each.
    Raises :class:`WorkflowInvalid`: ``invalid_name`` for the step, ``invalid_step_definition`` for
    the path.
    """

    step: str
    path: Path | None = None

    def __post_init__(self) -> None:
        checked_name(self.step, "the step of a result reference")
        if isinstance(self.path, list):
            object.__setattr__(self, "path", tuple(self.path))
        if self.path is not None and not _is_path(self.path):
            raise WorkflowInvalid(
                "invalid_step_definition",
                f"not a path into the result of {self.step!r}: {shown(self.path)}",
                step=self.step,
            )

    def to_dict(self) -> dict[str, Any]:
        """The stored form: ``{"$result": step}``, with ``"path"`` when there is one."""
        if self.path is None:
            return {RESULT_KEY: self.step}
        return {RESULT_KEY: self.step, PATH_KEY: self.json_path}

    @property
    def json_path(self) -> str | list[str | int] | None:
        """The path as JSON has it."""
        return list(self.path) if isinstance(self.path, tuple) else self.path

    @property
    def place(self) -> str:
        """`` at`` and the path, for people; nothing without one."""
        return "" if self.path is None else f" at {self.json_path}"

    @classmethod
    def of_dict(cls, value: dict[Any, Any]) -> Ref | None:
        """The reference that an object in the stored form stands for; None when it is not one."""
        step, path = value.get(RESULT_KEY), value.get(PATH_KEY)
        if type(step) is not str or len(value) != 1 + (PATH_KEY in value):
            return None
        if PATH_KEY in value and type(path) is not str and type(path) is not list:
            return None
        return cls(step, tuple(path) if type(path) is list else path)


@dataclass(frozen=True, slots=True)
class _StepRef:
    """A reference to a step, stored as ``{key: step}``."""

    key: ClassVar[str]
    step: str

    def __post_init__(self) -> None:
        checked_name(self.step, f"the step of {self.key}")

    def to_dict(self) -> dict[str, Any]:
        """The stored form."""
        return {self.key: self.step}

    @classmethod
    def of_dict(cls, value: dict[Any, Any]) -> Self | None:
        """The reference that an object in the stored form stands for; None when it is not one."""
        step = value.get(cls.key)
        return cls(step) if type(step) is str and len(value) == 1 else None


class OutcomeRef(_StepRef):
    """How ``step`` has ended: ``{"state", "cause", "summary", "payload"}``; stored as
    ``{"$outcome": step}``. Raises :class:`WorkflowInvalid`, ``invalid_name``."""

    __slots__ = ()
    key = OUTCOME_KEY


class ResultsRef(_StepRef):
    """The list of the results of what ``step`` has appended; stored as ``{"$results": step}``.
    Raises :class:`WorkflowInvalid`, ``invalid_name``."""

    __slots__ = ()
    key = RESULTS_KEY


AnyRef = Ref | OutcomeRef | ResultsRef


def outcome(step: str) -> OutcomeRef:
    """Stands in an input for how ``step`` has ended, in whatever way: an object with its
    ``state``, ``cause``, and the ``summary`` and ``payload`` of its latest result, null where it
    has none. Raises as :class:`OutcomeRef` does.
    """
    return OutcomeRef(step)


def results(step: str) -> ResultsRef:
    """Stands in an input for the results of the steps that ``step`` has appended: a list, in the
    order of its fragment, with null for one that was skipped or has not completed; empty where it
    has appended none (contract §14). Raises as :class:`ResultsRef` does.
    """
    return ResultsRef(step)


def _is_path(path: object) -> bool:
    if type(path) is str:
        return len(path) <= MAX_PATH and all(path.split(".")) and _encodable(path)
    if type(path) is not tuple or not path or len(path) > MAX_PATH:
        return False
    for key in path:
        if type(key) is str:
            if len(key) > MAX_PATH or not _encodable(key):
                return False
        elif type(key) is not int or not 0 <= key <= _LARGEST_INDEX:
            return False
    return sum(len(str(key)) + 1 for key in path) <= MAX_PATH + 1


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
