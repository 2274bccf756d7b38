"""Rooms as files: a room's line as JSON lines that can be verified anywhere, without a server or a database.

`lines` is the format, `verifying` checks a file; both are pure, and `python -m rooms.export verify FILE` needs nothing
else. `writing` makes a file from the database, and `rooms.importing` takes one in. docs/rooms-as-files.md describes
the format for readers of other makes.
"""
