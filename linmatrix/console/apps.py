"""Django's entry to the console."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """The pages that draw on rooms, federation and keys together. Each app registers the lists of its own models."""

    name = "linmatrix.console"
    label = "console"

    def ready(self) -> None:
        """Have the environment checked with everything else."""
        from linmatrix.environment import checks  # noqa: F401  it registers itself
