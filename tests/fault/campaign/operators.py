"""The operator: cancels, reopens, skips, retries and reruns what the plan says."""

from __future__ import annotations

import time
from functools import partial

from rwf import Client, CommandRejected
from rwf.model.states import TERMINAL_WORKFLOWS, Reason
from tests.fault.campaign.plan import Plan, Touch
from tests.fault.campaign.terms import PAUSE, Acknowledged, Terms, answered


def operator(terms: Terms) -> None:
    """Does what the plan says of its share; ends once all of that was acknowledged."""
    desk = _Desk(terms)
    inserted = Acknowledged(terms)
    waiting: list[tuple[Plan, str]] = []
    with Client.from_url(terms.url) as client:
        while waiting or not inserted.all_told:
            waiting += inserted.due()
            waiting = [one for one in waiting if not desk.dealt_with(client, *one)]
            time.sleep(PAUSE)


class _Desk:
    """What was acknowledged to this operator, and to those killed before it."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._journal = terms.journal("operated")
        self._done = {(entry["number"], entry["did"]) for entry in terms.noted("operated")}

    def dealt_with(self, client: Client, one: Plan, workflow_id: str) -> bool:
        """Goes as far with a workflow as it lets itself; whether that was all."""
        if one.touch is Touch.NONE or (one.number, one.touch) in self._done:
            return True
        if one.touch in (Touch.CANCEL, Touch.REOPEN):
            self._cancel(client, one, workflow_id)
        if one.touch is not Touch.CANCEL:
            if not self._ripe(client, one, workflow_id):
                return False
            self._recover(client, one, workflow_id)
        self._note(one, one.touch)
        return True

    def _note(self, one: Plan, did: str) -> None:
        self._journal.note(number=one.number, did=did)
        self._done.add((one.number, did))

    def _cancel(self, client: Client, one: Plan, workflow_id: str) -> None:
        if (one.number, "asked to end") in self._done:
            return
        try:
            answered(partial(client.request_cancel, workflow_id, actor="operator"))
        except CommandRejected as refusal:
            if refusal.reason_code != Reason.ALREADY_TERMINAL:
                raise
            self._note(one, "came too late")
        # A second request would stand against the recovery that follows.
        self._note(one, "asked to end")

    def _ripe(self, client: Client, one: Plan, workflow_id: str) -> bool:
        """Whether what is to be recovered is there; a recovery that was sent already may have
        changed it."""
        if one.touch is Touch.REOPEN:
            return True
        if one.touch is Touch.RERUN:
            return answered(partial(client.get, workflow_id)).state in TERMINAL_WORKFLOWS
        mended = self._terms.mended(one.number)
        if one.touch is Touch.MEND and mended.exists():
            return True
        state = answered(partial(client.step, workflow_id, one.touched.name)).state
        if one.touch is Touch.MEND and state == "failed":
            mended.touch()
        return state in ("failed", "completed")

    def _recover(self, client: Client, one: Plan, workflow_id: str) -> None:
        all_of_it = one.touch in (Touch.REOPEN, Touch.RERUN)
        answered(
            partial(
                client.recover_step,
                workflow_id,
                one.touched.name,
                "skip" if one.touch is Touch.SKIP else "retry",
                scope="downstream" if all_of_it else "blocked",
                force=all_of_it,
                reopen=one.touch is Touch.REOPEN,
                actor="operator",
                command_id=f"{one.number}-{one.touch}",
            )
        )
