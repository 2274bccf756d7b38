"""Django's entry to the app."""

from django.apps import AppConfig


class RoomsConfig(AppConfig):
    name = "rooms"
