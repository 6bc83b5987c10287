"""What a call whose command failed leaves: by function, what mends it, and the keys it changed.

The words for what mends it are those of ``test_every_call_site.mended_by``.
"""

from __future__ import annotations

from typing import Final

LEFT: Final[dict[str, dict[str, set[str]]]] = {
    "advance": {
        "": {
            "index outbox p stats timers",
            "index outbox p stats timers w",
            "index outbox stats timers w",
            "p ready stats timers",
        },
        "nothing": {
            "p ready stats timers w",
            "p stats timers w",
            "stats timers w",
            "timers",
        },
        "nothing+gauges": {
            "p stats timers",
            "stats timers",
        },
        "rebuild": {
            "ready",
            "ready timers",
        },
        "rebuild+gauges": {
            "ready stats timers",
        },
        "sweep": {
            "index",
            "index outbox timers",
            "index timers",
        },
        "sweep+gauges": {
            "index outbox stats timers",
        },
    },
    "await": {
        "nothing": {
            "d e p ready stats timers w",
            "d e p timers w",
            "d e ready stats timers w",
        },
        "rebuild": {
            "d e ready stats timers w",
            "d ready",
            "d ready timers",
            "ready",
        },
        "rebuild+gauges": {
            "d e ready stats timers",
            "d ready stats timers",
        },
        "sweep": {
            "d",
            "d e p timers",
            "d e timers",
            "d timers",
            "ready",
        },
        "sweep+gauges": {
            "d e p ready stats timers",
        },
    },
    "callback": {
        "nothing": {
            "n stats",
            "stats",
        },
        "sweep": {
            "outbox",
            "outbox stats",
            "outbox timers",
            "timers",
        },
        "sweep+gauges": {
            "e outbox stats timers",
            "outbox stats timers",
        },
    },
    "cancel": {
        "": {
            "d e stats timers w",
        },
        "nothing": {
            "e ready stats timers w",
        },
        "sweep": {
            "d",
            "d timers",
            "ready",
            "ready timers",
        },
        "sweep+gauges": {
            "d e stats timers",
            "d stats timers",
            "e ready stats timers",
            "ready stats timers",
        },
    },
    "check": {
        "rebuild": {
            "index",
            "index timers",
        },
    },
    "complete": {
        "": {
            "d e p ready stats timers",
            "e p ready stats timers",
            "index outbox p ready stats",
            "index outbox p stats timers",
            "p ready stats",
            "p ready stats timers",
            "p stats timers",
        },
        "nothing": {
            "d e p ready stats timers w",
            "e p ready stats timers w",
            "index outbox p ready stats w",
            "index outbox p stats timers w",
            "n",
            "n stats",
            "p ready stats timers w",
            "p ready stats w",
            "p stats timers w",
            "stats",
        },
        "rebuild": {
            "d ready",
            "d ready timers",
            "index outbox ready",
            "index outbox timers",
            "p ready stats timers w",
            "ready",
            "ready timers",
        },
        "rebuild+gauges": {
            "d e ready stats timers",
            "d ready stats timers",
            "e ready stats timers",
            "index outbox ready stats",
            "index outbox stats timers",
            "ready stats",
            "ready stats timers",
        },
        "sweep": {
            "index",
            "index ready",
            "index timers",
            "ready",
            "ready timers",
            "timers",
        },
        "sweep+gauges": {
            "ready stats timers",
            "stats timers",
        },
    },
    "fire": {
        "nothing": {
            "d e index outbox stats timers w",
            "e index outbox stats timers w",
            "e ready stats timers w",
            "ready stats timers w",
        },
        "rebuild": {
            "ready",
            "ready timers",
        },
        "rebuild+gauges": {
            "e ready stats timers",
            "ready stats timers",
        },
        "sweep": {
            "d index",
            "d index outbox timers",
            "d index timers",
            "index",
            "index outbox timers",
            "index timers",
        },
        "sweep+gauges": {
            "d e index outbox stats timers",
            "d index outbox stats timers",
            "e index outbox stats timers",
            "index outbox stats timers",
        },
    },
    "forget": {
        "": {
            "sig",
        },
    },
    "heartbeat": {
        "nothing": {
            "ready stats timers w",
        },
        "rebuild": {
            "ready",
            "ready timers",
        },
        "rebuild+gauges": {
            "ready stats timers",
        },
        "sweep": {
            "timers",
        },
    },
    "insert": {
        "nothing": {
            "staged",
        },
        "rebuild": {
            "index p ready w",
            "index p w",
            "index ready w",
            "index w",
            "p w",
            "w",
        },
        "rebuild+gauges": {
            "index p ready stats w",
            "index ready stats w",
        },
    },
    "member": {
        "rebuild": {
            "daemons",
        },
    },
    "note": {
        "nothing": {
            "n",
            "n stats",
            "stats",
        },
    },
    "prune": {
        "": {
            "index stats timers w",
            "index stats w",
            "timers w",
        },
        "nothing": {
            "e p timers w",
            "w",
        },
        "rebuild": {
            "index",
        },
        "rebuild+gauges": {
            "index stats",
        },
    },
    "registrations": {
        "rebuild": {
            "stats timers",
            "timers",
        },
    },
    "restore": {
        "rebuild": {
            "ready",
        },
    },
    "round": {
        "nothing": {
            "sweep",
        },
        "rebuild": {
            "sweep",
        },
    },
    "signal": {
        "nothing": {
            "log sig stats timers",
            "sig stats timers",
        },
        "rebuild": {
            "log stats timers",
            "sig stats timers",
            "stats timers",
            "timers",
        },
    },
    "start": {
        "nothing": {
            "reserved stats timers w",
        },
        "sweep": {
            "reserved",
            "reserved timers",
        },
        "sweep+gauges": {
            "reserved stats timers",
        },
    },
    "surplus": {
        "rebuild": {
            "timers",
        },
    },
    "sync": {
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
    "take": {
        "nothing": {
            "ready reserved",
        },
        "sweep": {
            "ready",
        },
    },
    "told": {
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
    "wake": {
        "nothing": {
            "d e p ready stats timers w",
        },
        "rebuild": {
            "d ready",
            "d ready timers",
            "ready",
        },
        "rebuild+gauges": {
            "d e p ready stats timers",
            "d e ready stats timers",
            "d ready stats timers",
        },
    },
}
