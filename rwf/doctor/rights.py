"""Whether the library is there, and whether the user may do what its functions do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import redis.exceptions as errors

from rwf.doctor.findings import ask, failed, ok, unreadable, warning
from rwf.model.views import Check
from rwf.protocol.functions.namespace import Namespace
from rwf.protocol.requests import READING, WRITING
from rwf.transport.actions import Steps
from rwf.transport.session import Session


def library_check(session: Session) -> Steps[Check]:
    """Whether every primary has the library of this release."""
    name = session.library.name
    listed = yield from ask(session, "FUNCTION", "LIST", "LIBRARYNAME", name)
    if isinstance(listed, errors.ResponseError):
        return unreadable("library", "FUNCTION LIST", listed)
    missing = [node for node, found in listed.items() if not found]
    if not missing:
        return ok("library", f"{name} is loaded")
    where = f" on {', '.join(missing)}" if session.cluster else ""
    return warning("library", f"{name} is not loaded{where}", "run `rwf migrate`")


def rights_check(session: Session) -> Steps[Check]:
    """Whether the user may call functions and run what these run, by dry run on its own keys."""
    name = "rights"
    found = yield from ask(session, "ACL", "WHOAMI")
    if isinstance(found, errors.ResponseError):
        return unreadable(name, "ACL WHOAMI", found)
    user = _text(next(iter(found.values())))
    refused = []
    for command in _commands(session):
        replies = yield from ask(session, "ACL", "DRYRUN", user, *command)
        if isinstance(replies, errors.ResponseError):
            return unreadable(name, "ACL DRYRUN", replies)
        if any(_text(reply) != "OK" for reply in replies.values()):
            refused.append(command[0])
    return _judged(name, user, refused)


def _judged(name: str, user: str, refused: list[str]) -> Check:
    reading = {"FCALL_RO", *READING} & set(refused)
    if not refused:
        return ok(name, f"{user} may do all that rwf does")
    if "FCALL" in refused and not reading:
        return ok(name, f"{user} may read, and nothing else")
    found = f"{user} may not {', '.join(refused)} in this namespace"
    return failed(name, found, "grant it the rights of its role in deploy/users.acl")


def _commands(session: Session) -> Iterator[tuple[str, ...]]:
    """Each command that rwf sends, or has a function run, on a key or a channel of its own."""
    key, channel = session.keys.meta(), session.keys.events(0)
    for function in ("FCALL_RO", "FCALL"):
        yield (function, session.library.function(Namespace.name), "1", key)
    both: Mapping[str, int] = {**READING, **WRITING}
    for command, arguments in both.items():
        yield (command, *([key] if arguments else []), *["0"] * (arguments - 1))
    yield (session.publish, channel, "")
    yield ("SSUBSCRIBE" if session.cluster else "SUBSCRIBE", channel)


def _text(reply: str | bytes) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
