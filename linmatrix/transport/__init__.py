"""Outbound I/O without the ORM: from a server name to an address, and from a request to its response.

Nothing here knows Django, rooms or keys, so it can be tested with a socket and nothing else.
"""
