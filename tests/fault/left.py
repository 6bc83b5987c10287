"""The traces of calls whose command failed: by function, the repair, and the keys that were
changed.

The words for repairs are those of ``test_every_call_site``.
"""

from __future__ import annotations

from typing import Final

LEFT: Final[dict[str, dict[str, set[str]]]] = {
    "acknowledge": {
        "nothing": {
            "e",
            "e w",
            "n",
            "n w",
        },
    },
    "advance": {
        "nothing": {
            "index outbox p stats timers w",
            "index outbox stats timers w",
            "outbox p stats timers w",
            "p",
            "p ready stats timers w",
            "p stats timers w",
            "p timers",
            "ready stats timers w",
            "stats timers w",
            "timers",
        },
        "rebuild": {
            "p ready timers w",
            "p timers w",
            "timers w",
        },
        "rebuild+entry": {
            "index outbox p timers w",
            "index outbox timers w",
            "outbox p timers w",
            "p timers w",
            "ready timers w",
        },
        "sweep": {
            "index",
            "index outbox timers",
            "index timers",
            "outbox p timers",
            "p ready",
            "p ready timers",
            "ready",
            "ready timers",
        },
        "sweep+count": {
            "index outbox p timers",
            "index p",
            "index p timers",
            "p ready",
            "p ready timers",
        },
    },
    "await": {
        "nothing": {
            "d e p ready stats timers w",
            "d e p stats timers w",
            "d e p timers w",
            "d e ready stats timers w",
            "e",
            "e p",
            "n",
            "n stats",
        },
        "rebuild": {
            "d e p",
            "d e p ready timers w",
            "d e p timers w",
            "d e ready",
            "d e ready stats timers w",
            "d e ready timers",
            "d e ready timers w",
            "e",
            "e ready",
        },
        "sweep": {
            "d e p",
            "d e p ready",
            "d e p ready timers",
            "d e p timers",
            "d e ready",
            "d e ready timers",
            "e p ready",
            "e ready",
        },
    },
    "cancel": {
        "nothing": {
            "d e index outbox stats timers w",
            "d e stats timers w",
            "e",
            "e index outbox ready stats timers w",
            "e index outbox stats timers w",
            "e ready stats timers w",
            "n",
        },
        "rebuild": {
            "e ready timers w",
        },
        "rebuild+entry": {
            "d e index outbox timers w",
            "d e timers w",
            "e index outbox ready timers w",
            "e index outbox timers w",
        },
        "sweep": {
            "d e",
            "d e index",
            "d e index outbox timers",
            "d e index timers",
            "d e timers",
            "e index",
            "e index outbox ready timers",
            "e index outbox timers",
            "e index ready",
            "e index ready timers",
            "e index timers",
            "e ready",
            "e ready timers",
        },
    },
    "repair_workflow": {
        "rebuild": {
            "index",
            "index timers",
        },
    },
    "repair_callbacks": {
        "rebuild": {
            "outbox",
        },
    },
    "correct_counts": {
        "rebuild": {
            "index",
            "index w",
        },
    },
    "claim_callbacks": {
        "sweep": {
            "outbox",
            "outbox w",
        },
    },
    "complete": {
        "again": {
            "d e p ready",
            "d e p ready timers",
            "d index outbox p ready timers",
            "d index p ready",
            "d index p ready timers",
            "e p",
            "e p ready",
            "e p ready timers",
            "index outbox p ready",
            "index outbox p ready timers",
            "index outbox p timers",
            "index p",
            "index p ready",
            "index p ready timers",
            "index p timers",
            "p",
            "p ready",
            "p ready timers",
            "p timers",
        },
        "nothing": {
            "d e p ready stats timers w",
            "d index outbox p ready stats timers w",
            "e",
            "e p ready staged stats w",
            "e p ready stats timers w",
            "index outbox p ready stats timers w",
            "index outbox p ready stats w",
            "index outbox p stats timers w",
            "n",
            "n stats",
            "p ready staged stats w",
            "p ready stats timers w",
            "p ready stats w",
            "p stats timers w",
        },
        "rebuild": {
            "d e p ready timers w",
            "d index outbox p ready timers w",
            "e p ready staged w",
            "e p ready timers w",
            "e p ready w",
            "index outbox p ready stats timers w",
            "index outbox p ready timers w",
            "index outbox p ready w",
            "index outbox p timers w",
            "p ready staged w",
            "p ready stats timers w",
            "p ready timers w",
            "p ready w",
            "p timers w",
        },
    },
    "discard": {
        "nothing": {
            "w",
        },
    },
    "fire_timers": {
        "nothing": {
            "d e index outbox stats timers w",
            "e",
            "e index outbox stats timers w",
            "e ready stats timers w",
            "n",
            "ready stats timers w",
        },
        "rebuild": {
            "d e index outbox timers w",
            "e index outbox timers w",
            "e ready timers w",
            "n ready timers w",
            "ready timers w",
        },
        "sweep": {
            "d e index",
            "d e index outbox timers",
            "d e index timers",
            "e index",
            "e index outbox timers",
            "e index timers",
            "e ready",
            "e ready timers",
            "n ready",
            "n ready timers",
            "ready",
            "ready timers",
        },
    },
    "extend_leases": {
        "sweep": {
            "timers",
        },
    },
    "release_claims": {
        "nothing": {
            "ready stats timers w",
        },
        "rebuild": {
            "ready timers w",
        },
        "sweep": {
            "ready",
            "ready timers",
        },
    },
    "block_on_missing_result": {
        "sweep": {
            "timers",
        },
    },
    "pause_claims": {
        "nothing": {
            "e",
            "e p",
        },
        "rebuild": {
            "e p timers w",
        },
        "sweep": {
            "e p timers",
            "timers",
        },
    },
    "insert": {
        "again": {
            "index p",
            "index p ready",
            "p",
        },
        "nothing": {
            "d index stats timers w",
            "index p ready stats w",
            "index ready stats w",
        },
        "rebuild": {
            "d index",
            "d index timers w",
            "index",
            "index p ready w",
            "index p w",
            "index ready",
            "index ready stats w",
            "index ready w",
            "index w",
            "p w",
            "w",
        },
        "sweep": {
            "d index timers",
            "index",
            "index ready",
        },
    },
    "stage_insert": {
        "nothing": {
            "staged",
        },
    },
    "block_id": {
        "nothing": {
            "staged",
        },
    },
    "register_daemon": {
        "rebuild": {
            "daemons",
        },
    },
    "register_worker": {
        "nothing": {
            "about",
            "workers",
        },
    },
    "record_evidence": {
        "nothing": {
            "n",
            "n stats",
        },
    },
    "prune": {
        "again": {
            "index outbox w",
            "index w",
        },
        "nothing": {
            "e n p timers w",
            "e p timers w",
            "index outbox stats w",
            "index stats w",
            "w",
        },
        "rebuild": {
            "index outbox stats timers w",
            "index stats timers w",
            "timers w",
        },
        "sweep": {
            "index",
            "index outbox",
        },
    },
    "recover": {
        "again": {
            "e index outbox p ready",
            "e index outbox p ready timers",
            "e index p",
            "e index p ready",
            "e index p ready timers",
            "e index p timers",
            "e outbox p ready",
            "e p",
            "e p ready",
        },
        "nothing": {
            "e",
            "e index outbox p ready stats timers w",
            "e index outbox p ready stats w",
            "e index p stats timers w",
            "e outbox p ready stats w",
            "n",
            "n w",
        },
        "rebuild": {
            "e index outbox p ready timers w",
            "e index outbox p ready w",
            "e index p timers w",
            "e outbox p ready w",
        },
    },
    "set_retention": {
        "nothing": {
            "e",
            "e timers w",
            "e w",
        },
        "sweep": {
            "e timers",
        },
    },
    "repair_topic": {
        "rebuild": {
            "stats timers",
            "timers",
        },
    },
    "resend_callback": {
        "nothing": {
            "e",
            "n",
            "n w",
        },
        "rebuild": {
            "e outbox w",
        },
        "sweep": {
            "e outbox",
        },
    },
    "repair_keys": {
        "rebuild": {
            "ready",
        },
    },
    "end_sweep_round": {
        "nothing": {
            "sweep",
        },
        "rebuild": {
            "sweep",
        },
    },
    "judge_topic": {
        "rebuild": {
            "timers",
        },
    },
    "sweep_cursor": {
        "nothing": {
            "sweep",
        },
        "rebuild": {
            "sweep",
        },
    },
    "settle_callbacks": {
        "nothing": {
            "outbox w",
        },
        "rebuild": {
            "outbox w",
        },
        "sweep": {
            "outbox",
        },
    },
    "signal": {
        "nothing": {
            "log",
            "log sig stats",
            "log sig stats timers",
            "log stats",
            "sig stats timers",
        },
        "rebuild": {
            "sig stats timers",
            "stats timers",
            "timers",
        },
        "sweep": {
            "log stats timers",
            "log timers",
            "stats timers",
            "timers",
        },
    },
    "start_steps": {
        "nothing": {
            "reserved stats timers w",
        },
        "rebuild": {
            "reserved timers w",
        },
        "sweep": {
            "reserved",
            "reserved timers",
        },
    },
    "dispatch_steps": {
        "rebuild": {
            "reserved timers w",
        },
        "sweep": {
            "reserved",
            "reserved timers",
        },
    },
    "start_ticket": {
        "nothing": {
            "e",
            "e n",
            "n",
            "timers w",
        },
        "rebuild": {
            "e n timers w",
            "n ready timers w",
        },
        "sweep": {
            "e n timers",
            "n ready",
            "n ready timers",
            "timers",
        },
    },
    "remove_orphans": {
        "rebuild": {
            "timers",
        },
    },
    "update_topic": {
        "nothing": {
            "reg sig stats timers",
            "reg sig timers",
        },
        "rebuild": {
            "reg",
            "reg stats",
        },
        "sweep": {
            "reg",
            "reg stats timers",
            "reg timers",
        },
    },
    "reserve_steps": {
        "nothing": {
            "ready reserved",
        },
        "sweep": {
            "ready",
        },
    },
    "ack_wait_notices": {
        "nothing": {
            "d timers w",
            "d w",
        },
        "rebuild": {
            "d",
            "d timers",
            "d timers w",
        },
        "sweep": {
            "d",
            "d timers",
        },
    },
    "resolve_wait": {
        "nothing": {
            "d e p ready stats timers w",
            "e",
        },
        "rebuild": {
            "d e p ready timers w",
        },
        "sweep": {
            "d e p ready",
            "d e p ready timers",
            "e p",
            "e p ready",
        },
    },
    "withdraw_signal": {
        "nothing": {
            "log",
            "log sig stats",
            "log stats",
        },
        "rebuild": {
            "log stats timers",
            "log timers",
            "timers",
        },
    },
    "resolve_child": {
        "nothing": {
            "d e p ready stats timers w",
            "e",
            "e index outbox p stats timers w",
        },
        "rebuild": {
            "d e p ready timers w",
            "e index outbox p timers w",
        },
        "sweep": {
            "d e p ready",
            "d e p ready timers",
            "e index outbox p timers",
            "e index p",
            "e index p timers",
            "e p",
            "e p ready",
        },
    },
    "update_child": {
        "nothing": {
            "d ready stats timers w",
            "d timers w",
            "e",
            "e index outbox ready stats timers w",
            "timers w",
        },
        "rebuild": {
            "d ready timers w",
        },
        "rebuild+entry": {
            "e index outbox ready timers w",
        },
        "sweep": {
            "d",
            "d ready",
            "d ready timers",
            "d timers",
            "e index",
            "e index outbox ready timers",
            "e index ready",
            "e index ready timers",
            "ready",
            "timers",
        },
    },
    "begin_bulk": {
        "nothing": {
            "bulk bulks",
        },
        "rebuild": {
            "bulk",
            "bulk bulks",
        },
    },
    "report_bulk": {
        "again": {
            "br",
        },
        "nothing": {
            "br bulk",
            "bulk",
        },
        "rebuild": {
            "br bulk bulks",
            "bulk bulks",
        },
    },
    "stop_bulk": {
        "nothing": {
            "bulk",
        },
        "rebuild": {
            "bulk bulks",
        },
    },
    "stage_fragment": {
        "nothing": {
            "staged",
        },
    },
    "append": {
        "again": {
            "e p",
            "e p ready",
            "e p timers",
        },
        "nothing": {
            "e",
            "e p ready staged stats w",
            "e p timers w",
            "n",
        },
        "rebuild": {
            "e p ready staged w",
            "e p ready w",
        },
    },
    "discard_fragment": {
        "nothing": {
            "p",
        },
    },
    "list_bulk": {
        "rebuild": {
            "bulks",
        },
    },
}
