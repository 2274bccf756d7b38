"""`manage.py kick`: remove someone from a room; an invite that was not answered is taken back the same way."""

from federation.management.removing import Removing


class Command(Removing):
    """Removes a user, who may come back when invited."""

    help = "Remove somebody from a room. Also takes back an invite or a ban."
    membership = "leave"
