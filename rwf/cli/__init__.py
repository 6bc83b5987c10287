"""The command line: ``rwf`` and ``python -m rwf``. It uses the public client only.

One subject a file: ``common`` has what all commands share, ``faults`` how errors are shown.
"""

from __future__ import annotations

import logging

import click

from rwf.cli import (
    bulk,
    callbacks,
    commands,
    console,
    demo,
    dispatcher,
    finding,
    fleet,
    inspect,
    operate,
    reconciler,
    server,
    signals,
    watch,
    worker,
)
from rwf.cli.faults import Program

_HELP = """Durable workflow graphs on Redis or Valkey.

Commands find the server by --url or $RWF_URL; `rwf demo` needs none. Errors are one line on stderr.

Exit codes: 0 done, 1 refused or not found, 2 usage, 3 server unreachable or misconfigured, 130
interrupted.
"""


@click.group(
    name="rwf",
    cls=Program,
    help=_HELP,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="rwf", message="%(prog)s %(version)s")
def program() -> None:
    pass


for _module in (
    commands,
    operate,
    bulk,
    signals,
    callbacks,
    finding,
    inspect,
    watch,
    fleet,
    worker,
    dispatcher,
    reconciler,
    console,
    server,
    demo,
):
    for _command in _module.COMMANDS:
        program.add_command(_command)


def main() -> None:
    """Runs the command line of this process, and ends the process with its exit code."""
    # The doctor is the command for warnings; every other command prints an error as one line on
    # stderr.
    logging.getLogger("rwf").addHandler(logging.NullHandler())
    program.main(prog_name="rwf")
