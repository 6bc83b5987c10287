"""References to the results of other steps, as inputs hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rwf.errors import WorkflowInvalid
from rwf.model.names import checked_name, shown

RESULT_KEY: Final = "$result"
PATH_KEY: Final = "path"
MAX_PATH: Final = 1024


@dataclass(frozen=True, slots=True)
class Ref:
    """The durable result of ``step``, or the field of it at the dotted ``path``.

    ``path`` holds 1 to 1,024 characters and no empty field name. Raises :class:`WorkflowInvalid`:
    ``invalid_name`` for the step, ``invalid_step_definition`` for the path.
    """

    step: str
    path: str | None = None

    def __post_init__(self) -> None:
        checked_name(self.step, "the step of a result reference")
        if self.path is not None and not _is_path(self.path):
            raise WorkflowInvalid(
                "invalid_step_definition",
                f"not a path into the result of {self.step!r}: {shown(self.path)}",
                step=self.step,
            )

    def to_dict(self) -> dict[str, str]:
        """The stored form: ``{"$result": step}``, with ``"path"`` when there is one."""
        if self.path is None:
            return {RESULT_KEY: self.step}
        return {RESULT_KEY: self.step, PATH_KEY: self.path}

    @classmethod
    def of_dict(cls, value: dict[Any, Any]) -> Ref | None:
        """The reference that an object in the stored form stands for; None when it is not one."""
        step, path = value.get(RESULT_KEY), value.get(PATH_KEY)
        if type(step) is not str or len(value) != 1 + (PATH_KEY in value):
            return None
        if PATH_KEY in value and type(path) is not str:
            return None
        return cls(step, path)


def result(step: str, path: str | None = None) -> Ref:
    """Stands in an input for the result of ``step``, or for a field of it (``"a.b"``).

    It is filled in when the step that holds it is claimed. Raises as :class:`Ref` does.
    """
    return Ref(step, path)


def _is_path(path: object) -> bool:
    if type(path) is not str or len(path) > MAX_PATH or not all(path.split(".")):
        return False
    return path.isascii() or not any("\ud800" <= char <= "\udfff" for char in path)
