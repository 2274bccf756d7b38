"""What an operator sees of the traffic with other servers, and the levers: a module for each kind of row.

Destinations are in `destinations`, with what can be done about them in `levers`; what was sent, received and waits in
`transactions`; what travels outside of rooms in `edus` and, for our users' devices, `inboxes`; what is known of others'
devices in `device_lists`; the servers that are blocked in `blocked`.
"""

from federation.admin import blocked, destinations, device_lists, edus, inboxes, transactions

__all__ = ["blocked", "destinations", "device_lists", "edus", "inboxes", "transactions"]
