"""Django's entry to the app."""

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class FederationConfig(AppConfig):
    name = "federation"

    def ready(self) -> None:
        """Begin to listen to `rooms`. Raises ImproperlyConfigured for settings that could not be followed later."""
        from federation import receivers  # noqa: F401  its functions connect themselves
        from federation.rate_limits import configured_rates

        try:
            configured_rates(settings.RATE_LIMITS)
        except (ValueError, TypeError) as error:
            raise ImproperlyConfigured(f"LINMATRIX_RATE_LIMITS: {error}") from None
