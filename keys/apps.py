"""Django's entry to the app."""

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from keys import key_file
from linmatrix.protocol.identifiers import is_server_name


class KeysConfig(AppConfig):
    name = "keys"

    def ready(self) -> None:
        """Refuse to start with a signing key that is unusable or that others may read, or a notary that is none."""
        if settings.SIGNING_KEY_FILE.exists():
            key_file.load(settings.SIGNING_KEY_FILE)
        for notary in settings.NOTARIES:
            if not is_server_name(notary) or notary == settings.SERVER_NAME:
                raise ImproperlyConfigured(f"LINMATRIX_NOTARIES: {notary!r} is not the name of another server.")
