"""How errors are shown: one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

import click

from rwf import (
    CommandRejected,
    NamespaceMismatch,
    NotFound,
    RecordUnreadable,
    RwfError,
    StoreMisconfigured,
    StoreUnavailable,
    WorkflowInvalid,
)
from rwf.cli.text import without_passwords
from rwf.model.names import escaped

REFUSED: Final = 1
USAGE: Final = 2
NO_STORE: Final = 3
INTERRUPTED: Final = 130
# The exit code that a shell reports for a program that SIGPIPE has ended.
BROKEN_PIPE: Final = 141


class Refused(click.ClickException):
    """Something that the command line itself refuses; ``code`` names it."""

    exit_code = REFUSED

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Fault:
    """An error as it is shown: exit code, code, message, and what may be done next."""

    def __init__(
        self,
        exit_code: int,
        code: str,
        message: str,
        legal_next_steps: Sequence[str] = (),
        workflow_id: str | None = None,
    ) -> None:
        self.exit_code = exit_code
        self.code = code
        self.message = without_passwords(message)
        self.legal_next_steps = tuple(legal_next_steps)
        self.workflow_id = workflow_id

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """Returns how an exception is shown to the user."""
        match error:
            case Refused():
                return cls(REFUSED, error.code, error.message)
            case click.ClickException():
                return cls(USAGE, "usage", _usage_message(error))
            case CommandRejected(action="connect"):
                return cls(USAGE, "usage", error.message)
            case CommandRejected():
                steps, owner = error.legal_next_steps, error.workflow_id
                return cls(REFUSED, error.reason_code, error.message, steps, owner)
            case WorkflowInvalid():
                return cls(REFUSED, error.code, error.message)
            case NotFound():
                return cls(REFUSED, "not_found", str(error))
            case RecordUnreadable():
                return cls(REFUSED, "record_unreadable", str(error))
            case StoreUnavailable():
                return cls(NO_STORE, "store_unavailable", str(error))
            case StoreMisconfigured():
                return cls(NO_STORE, "store_misconfigured", str(error))
            case NamespaceMismatch():
                return cls(NO_STORE, "namespace_mismatch", str(error))
            case RwfError():
                return cls(NO_STORE, "server_failed", str(error))
            case _:
                # Its message may quote what must not be shown, such as a password.
                return cls(REFUSED, "internal_error", f"unexpected {type(error).__name__}")

    def line(self, *, as_json: bool) -> str:
        """The one line, without a newline."""
        if as_json:
            shown: dict[str, Any] = {"error": self.code, "message": self.message}
            if self.legal_next_steps:
                shown["legal_next_steps"] = self.legal_next_steps
            if self.workflow_id is not None:
                shown["workflow_id"] = self.workflow_id
            return json.dumps(shown)
        text = f"rwf: {self.code}: {escaped(self.message)}"
        if self.legal_next_steps:
            text += f" (next: {', '.join(self.legal_next_steps)})"
        return text


def _usage_message(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split())
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message += f" (see `{error.ctx.command_path} --help`)"
    return message


class Program(click.Group):
    """A group of commands that ends the process as the contract says, whatever happens."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        given = list(sys.argv[1:] if args is None else args)
        with contextlib.suppress(AttributeError):
            # Characters that a terminal cannot show are escaped, so that none makes the command
            # fail.
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.exit(self._ended(given, extra | {"standalone_mode": False}))

    def _ended(self, args: list[str], extra: dict[str, Any]) -> int:
        try:
            code = super().main(args, **extra)
        except click.Abort:
            _complain("rwf: interrupted")
            return INTERRUPTED
        except OSError as error:
            _forget_stdout()
            where = f"{error.filename}: " if error.filename else ""
            reason = error.strerror or type(error).__name__
            return self._shown(Fault(REFUSED, "io_error", f"{where}{reason}"), args)
        except Exception as error:
            return self._shown(Fault.of(error), args)
        return code if isinstance(code, int) else 0

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read has seen enough: nothing to say, and nowhere to say it.
            _forget_stdout()
            return BROKEN_PIPE
        except KeyboardInterrupt:
            # Click would print an empty line first.
            raise click.Abort from None
        return code

    def _shown(self, fault: Fault, args: list[str]) -> int:
        _complain(fault.line(as_json="--json" in args))
        return fault.exit_code


def _complain(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _forget_stdout() -> None:
    # Else Python tries to write the rest when it ends, and complains that it cannot.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Turns what goes wrong with a file into a usage error that names it."""
    try:
        yield
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror or type(error).__name__}") from None
    except ValueError as error:
        # A NUL in the name.
        raise click.UsageError(f"{path}: {error}") from None
