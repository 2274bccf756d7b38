"""`manage.py ban`: remove someone from a room for good."""

from federation.management.removing import Removing


class Command(Removing):
    """Bans a user, who cannot come back before `kick` takes the ban back."""

    help = "Ban somebody from a room."
    membership = "ban"
