"""Commands that run an object of the user's own module: a worker, a dispatcher."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, TypeVar

import click
from click.core import ParameterSource

from rwf import AsyncClient, Client
from rwf.cli.common import Output
from rwf.cli.processes import Address, logging_to, serving_metrics
from rwf.internals import twin_of
from rwf.metrics import Daemon, Working

T = TypeVar("T")

# How long threads that are not daemons may take to end after the rest.
_THREADS_END: Final = 1.0


def loader(kind: type[T]) -> Callable[[click.Context, click.Parameter, str], T]:
    """Finds the object of a kind that MODULE:NAME names; the working directory is searched
    first."""

    def load(_context: click.Context, _parameter: click.Parameter, place: str) -> T:
        module_name, _, name = place.partition(":")
        what = kind.__name__.lower()
        if not module_name or not name:
            raise click.BadParameter(f"give MODULE:{what.upper()}, such as app.jobs:{what}")
        sys.path.insert(0, os.getcwd())
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise click.BadParameter(f"cannot import {module_name}: {error}") from None
        except Exception as error:  # a user's module may raise any of them
            raise click.BadParameter(
                f"cannot import {module_name}: {type(error).__name__}: {error}"
            ) from None
        found = getattr(module, name, None)
        if not isinstance(found, kind):
            raise click.BadParameter(f"{module_name} has no {kind.__name__} named {name}")
        return found

    return load


def logging_of_module(
    context: click.Context, level: str, form: str | None, out: Output
) -> AbstractContextManager[None]:
    """Shows what is logged on stderr; a module that has seen to that itself keeps its own way,
    unless another is asked for."""
    root, asked = logging.getLogger(), ("log_level", "log_format")
    if root.handlers:
        if all(context.get_parameter_source(name) is ParameterSource.DEFAULT for name in asked):
            return nullcontext()
        root.handlers.clear()
    return logging_to(sys.stderr, root, level, form, out.as_json)


@contextmanager
def serving_beside(
    context: click.Context,
    client: Client | AsyncClient,
    address: Address | None,
    daemon: Daemon | None = None,
    worker: Working | None = None,
    by_name: bool = False,
) -> Iterator[None]:
    """Serves metrics, if they are wanted, on connections of their own: whatever the client's loop
    does, they are served."""
    twin = None if address is None else twin_of(client)
    if twin is None:
        yield
        return
    with twin, serving_metrics(context, twin, address, daemon, worker, by_name):
        yield


def leave_threads_behind() -> None:
    """Ends the process when threads are left that would keep it from ending, such as those of a
    handler's own that hang."""
    until = time.monotonic() + _THREADS_END
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join(max(until - time.monotonic(), 0))
            if thread.is_alive():
                end_now()


def end_now() -> None:
    """Ends the process, whatever its threads do."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)
