"""Devices and their one-time keys: of local users as they upload them, of others as their servers tell.

A device's object is checked when it comes in (`linmatrix.protocol.devices`), is kept as the text that its signatures
are about, and is told to others as it is. Who may call for which user is for callers to know: rooms are above.

`storing` changes a local user's devices, `uploading` and `claiming` their keys, `remote` is what we know of others,
`housekeeping` forgets.
"""

from keys.devices.remote import receive_update
from keys.devices.storing import has_device

__all__ = ["has_device", "receive_update"]
