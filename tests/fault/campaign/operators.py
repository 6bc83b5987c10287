"""The operator: cancels, reopens, skips, retries, reruns and appends as planned."""

from __future__ import annotations

import time
from functools import partial

from rwf import Client, CommandRejected
from rwf.model.states import TERMINAL_WORKFLOWS, Reason
from tests.fault.campaign.plan import Plan, Touch
from tests.fault.campaign.share import PAUSE, Acknowledged, Share, answered


def operator(share: Share) -> None:
    """Carries out its share of the plan; ends once all of it was acknowledged."""
    commands = _Commands(share)
    inserted = Acknowledged(share)
    waiting: list[tuple[Plan, str]] = []
    with Client.from_url(share.url) as client:
        while waiting or not inserted.all_seen:
            waiting += inserted.due()
            waiting = [one for one in waiting if not commands.dealt_with(client, *one)]
            time.sleep(PAUSE)


class _Commands:
    """One operator's commands: those acknowledged to it, and to those killed before it."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._journal = share.journal("operated")
        self._done = {(entry["number"], entry["did"]) for entry in share.noted("operated")}

    def dealt_with(self, client: Client, one: Plan, workflow_id: str) -> bool:
        """Goes as far with a workflow as possible now. Returns whether it is done."""
        if one.touch is Touch.NONE or (one.number, one.touch) in self._done:
            return True
        if one.touch in (Touch.CANCEL, Touch.REOPEN):
            self._cancel(client, one, workflow_id)
        if one.touch is Touch.APPEND:
            self._append(client, one, workflow_id)
        elif one.touch is not Touch.CANCEL:
            if not self._is_ready(client, one, workflow_id):
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
        # A second request would work against the recovery that follows.
        self._note(one, "asked to end")

    def _append(self, client: Client, one: Plan, workflow_id: str) -> None:
        fragment, command = one.fragment(one.outside), f"{one.number}-append"
        answered(partial(client.append, workflow_id, fragment, command_id=command))
        self._share.ready(one.number).touch()

    def _is_ready(self, client: Client, one: Plan, workflow_id: str) -> bool:
        """Whether the step can be recovered now; a recovery that was sent already may have changed
        it."""
        if one.touch is Touch.REOPEN:
            return True
        if one.touch is Touch.RERUN:
            return answered(partial(client.get, workflow_id)).state in TERMINAL_WORKFLOWS
        mended = self._share.ready(one.number)
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
