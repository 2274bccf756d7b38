"""The one message that goes up from `keys`: a local user's devices changed.

Sent inside the transaction that changes them, so that what listeners write is committed with the change.
Arguments: `user_id` (str), `stream_id` (int, the number of the change among the user's).
"""

from django.dispatch import Signal

device_list_changed = Signal()
