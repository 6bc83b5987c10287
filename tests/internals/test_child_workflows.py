"""White-box cases beside those of ``contract/test_child_workflows.py``."""

from __future__ import annotations

from rwf import Client, Completion
from rwf.ops.claims import Claimer
from rwf.ops.complete import exchange, prepared
from tests.support.children_cases import claim, started
from tests.support.daemons import serving
from tests.support.flows import states
from tests.support.waiting import until


def test_a_daemon_tells_what_a_worker_has_left(client: Client) -> None:
    """The worker has reported the child's last step, and not told its parent."""
    parent, kid = started(client, text="call", child="a")
    claimed = claim(client)
    report = Completion(workflow_id=kid.id, step="a", lease=claimed.lease)
    items, claimer = [prepared(client._ctx, report)], Claimer.checked(["default"], "w", 30.0)
    partition = int(kid.id.partition("-")[0])
    done = client._run(exchange(client._ctx, partition, items, [], claimer, 0))
    assert done.ended == [kid.id]
    assert states(client, parent.id) == "call=awaiting_signal"
    with serving(client):
        until(lambda: client.get(parent.id).state == "completed", what="the parent's end")
