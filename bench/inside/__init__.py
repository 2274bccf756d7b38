"""What runs inside of a server's own Django, called through `bench.helper` by name.

Nothing outside imports these modules: Django's models want settings first.
"""
