"""What an operator sees of the traffic with other servers, and the levers: a module for each kind of row.

Destinations are in `destinations`, with what can be done about them in `levers`; what was sent, received and waits in
`transactions`; the servers that are blocked in `blocked`.
"""

from federation.admin import blocked, destinations, transactions

__all__ = ["blocked", "destinations", "transactions"]
