"""Rate limits for servers that are fuzzed: none, since a limit would keep most requests from being looked at."""

import json

UNLIMITED = json.dumps(
    dict.fromkeys(
        [
            "backfill", "event", "invite", "make_join", "make_knock", "make_leave",
            "send_join", "send_knock", "send_leave", "state", "state_ids",
        ]
    )
)  # fmt: skip
