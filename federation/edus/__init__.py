"""EDUs: what comes in and what goes out beside the rooms (draft, "EDUs"; decisions 106, 107, 111 and 114).

*Coming in* (`receiving`), before the transaction's 200: a to-device message is a row of its device's inbox by then, and
a device list update has been handed to whoever keeps the lists. Where the same transaction is processed again, because
a process died or its answer was lost, the inbox knows the message by its place in it.

*An inbox* (`inbox`) is a line of its own: messages are numbered under the lock of its row, so that a client that
acknowledges what it has read never acknowledges what it has not seen.

*Going out*, EDUs are sent to the users' own servers, never by way of a hub, in the same frozen transactions as events
(`federation.gathering`, `outgoing`). To-device messages wait in a queue (`to_device`, `OutboundEdu`). Device lists do
not: a cursor says what a server has been told of a user's devices, as far as a position in the list's stream, and the
content is made of what came after when a transaction is frozen (`device_lists`). However often a device changes while a
server is away, one update is due.

*Whom to tell* follows from who shares a room with whom (`rooms.audience`). That may be thousands of servers, or of
users, so it is not worked out where rooms are appended to: there one row notes what happened, and a worker goes through
the pairs that it concerns (`spreading`).
"""
