"""Django's entry to a room's pages: an app of its own, for the permissions to act in rooms."""

from django.apps import AppConfig


class ActingConfig(AppConfig):
    """Has permissions and no tables, hence no migrations: `migrate` makes the permissions of every app."""

    name = "linmatrix.console.rooms"
    label = "acting"
    verbose_name = "acting in rooms"
