"""Acting: a page that shows what a command would do, and the form of it that has it done."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from rwf.console.actions import COMMANDS
from rwf.console.filters import FILTERS
from rwf.console.previews import Command, Given, Order, Place, Preview, needed
from rwf.console.security import checked_form
from rwf.console.visit import Console, Visit, tell_done, url
from rwf.errors import RwfError
from rwf.model.names import escaped

log = logging.getLogger("rwf.console")

_CHANGES_SHOWN: Final = 100
_REMEMBERED: Final = 1_000
"""Confirmations that are known again when a browser sends them twice."""
_ONCE: Final = re.compile("[0-9a-f]{32}")
_LONGEST_REASON: Final = 512

Outcome = Preview | str | Place | None
"""The result of a confirmed command: a preview if it was not carried out, else a remark, if any, or
where to look."""
_TARGET: Final = (
    *("workflow", "step", "do", "scope", "status", "days", "signal", "callback", "session", "on"),
    *(name for name in FILTERS if name != "status"),
)


class Acting:
    """The pages of all commands."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._orders: OrderedDict[tuple[str, str, str], asyncio.Task[Outcome]] = OrderedDict()

    async def answer(self, visit: Visit) -> Response:
        """The page of a command or, for its form, what came of it."""
        request = visit.request
        command = COMMANDS.get(request.path_params["action"])
        if command is None:
            raise HTTPException(404, "no such action")
        actor = await self._console.actor(request, command.name)
        if actor is None:
            raise HTTPException(403, "you may not do this")
        if request.method != "POST":
            given = dict(request.query_params)
            return _shown(visit, command, given, await command.preview(visit.client, given))
        return await self._confirmed(visit, command, await checked_form(request), actor)

    async def _confirmed(
        self, visit: Visit, command: Command, given: Given, actor: str
    ) -> Response:
        once, reason = needed(given, "once"), given.get("reason", "").strip()
        if not _ONCE.fullmatch(once) or not 1 <= len(reason) <= _LONGEST_REASON:
            raise HTTPException(400, f"give a reason, of at most {_LONGEST_REASON} characters")
        found = await self._once(visit, command, Order(given, actor, reason, once))
        if isinstance(found, Preview):
            return _shown(visit, command, given, found, changed=True)
        path, query = found if isinstance(found, tuple) else command.back(given)
        back = url(visit.request, path, **query)
        if isinstance(found, str):
            return visit.page("done.html", told=found, back=back)
        response = RedirectResponse(back, 303)
        tell_done(visit.request, response, command.name)
        return response

    async def _once(self, visit: Visit, command: Command, order: Order) -> Outcome:
        """Carries out a command once for each confirmation, even if nobody waits for it any
        more."""
        key = (order.once, order.actor, command.name)
        task = self._orders.get(key)
        if task is None:
            task = asyncio.create_task(_carried_out(visit, command, order))
            self._orders[key] = task
            while len(self._orders) > _REMEMBERED:
                self._orders.popitem(last=False)
        try:
            return await asyncio.shield(task)
        except RwfError:  # a command that was refused, or did not get through, may be tried again
            self._orders.pop(key, None)
            raise


async def _carried_out(visit: Visit, command: Command, order: Order) -> Outcome:
    """Does it, unless a dry run shows something else by now than what was confirmed; and writes in
    the console's log what came of it."""
    given, outcome = order.given, "refused"
    try:
        if given.get("seen"):
            preview = await command.preview(visit.client, given)
            if preview.seen != given["seen"]:
                return preview
        found = await command.run(visit.client, order)
        outcome = "done"
        return found
    finally:
        target = " ".join(f"{name}={given[name]}" for name in _TARGET if given.get(name))
        told = escaped(f"by {order.actor}: {target}: {order.reason}")
        log.info("%s %s %s", command.name, outcome, told)


def _shown(
    visit: Visit, command: Command, given: Given, preview: Preview, *, changed: bool = False
) -> Response:
    path, query = command.back(given)
    return visit.page(
        "act.html",
        409 if changed else 200,
        has_form=True,
        here=f"/act/{command.name}",
        preview=preview,
        chosen={name: given[name] for name in _names(preview) if given.get(name)},
        changes=preview.result.changes[:_CHANGES_SHOWN] if preview.result else (),
        once=secrets.token_hex(16),
        back=url(visit.request, path, **query),
        changed=changed,
    )


def _names(preview: Preview) -> set[str]:
    return {option.name for option in preview.options}
