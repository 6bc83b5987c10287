"""The pages for operators: ``console``."""

from __future__ import annotations

import getpass
import logging
import socket
import sys

import click

from rwf import AsyncClient
from rwf.cli.common import Output, json_option, namespace_option, url_option
from rwf.cli.faults import Refused
from rwf.cli.processes import Address, address_value, log_options, logging_to


def check_extra() -> None:
    """Raises Refused when what the console needs is not installed."""
    try:
        import rwf.console.serving  # noqa: F401
    except ModuleNotFoundError as error:
        raise Refused("extra_missing", "pip install 'rwf[console]'") from error


@click.command()
@click.option(
    "--listen",
    "address",
    default="127.0.0.1:9465",
    show_default=True,
    metavar="HOST:PORT",
    callback=address_value,
    help="Address to serve on; port 0: any free one.",
)
@click.option(
    "--token",
    envvar="RWF_CONSOLE_TOKEN",
    metavar="TEXT",
    help="The password of visitors; required unless --listen is on loopback.  [$RWF_CONSOLE_TOKEN]",
)
@click.option("--allow-actions", is_flag=True, help="Let visitors act, not only look.")
@click.option(
    "--actor",
    metavar="NAME",
    help="Who acts, for the evidence, where there is no token.  [default: your user name]",
)
@log_options
@url_option
@namespace_option
@json_option
def console(
    address: Address,
    token: str | None,
    allow_actions: bool,
    actor: str | None,
    log_level: str,
    log_format: str | None,
    url: str,
    namespace: str,
    out: Output,
) -> None:
    """Serve pages that show what is wrong and what can be done, until SIGTERM or SIGINT.

    On loopback anybody on this machine may look. On another address visitors log in with the
    token.
    """
    check_extra()
    from rwf.console.access import LoopbackAccess, TokenAccess, is_loopback
    from rwf.console.serving import serve

    host, port = address
    access: LoopbackAccess | TokenAccess
    if token:
        try:
            access = TokenAccess(token)
        except ValueError as error:
            raise click.UsageError(f"--token: {error}") from None
    elif is_loopback(host):
        access = LoopbackAccess(actor or getpass.getuser())
    else:
        raise click.UsageError(f"{host} is no loopback address: set RWF_CONSOLE_TOKEN")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, port), family=family) as listener,
        logging_to(sys.stderr, logging.getLogger("rwf"), log_level, log_format, out.as_json),
        logging_to(sys.stderr, logging.getLogger("uvicorn"), "error", log_format, out.as_json),
    ):
        place = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        if out.as_json:
            out.document({"url": place, "allow_actions": allow_actions})
        else:
            out.lines([f"console on {place}{'' if allow_actions else ', read-only'}"])
        sys.stdout.flush()
        serve(
            lambda: AsyncClient.from_url(url, namespace=namespace),
            listener,
            access,
            allow_actions=allow_actions,
        )


COMMANDS = (console,)
