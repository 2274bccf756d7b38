"""Django's entry to the app."""

from django.apps import AppConfig


class FederationConfig(AppConfig):
    name = "federation"

    def ready(self) -> None:
        """Begin to listen to `rooms`."""
        from federation import receivers  # noqa: F401  its functions connect themselves
