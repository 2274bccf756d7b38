"""Django's entry to the app."""

from django.apps import AppConfig
from django.conf import settings

from keys import local


class KeysConfig(AppConfig):
    name = "keys"

    def ready(self) -> None:
        """Refuse to start with a signing key that is unusable or that others may have read."""
        if settings.SIGNING_KEY_FILE.exists():
            local.load(settings.SIGNING_KEY_FILE)
