"""What every process does first: find the settings, and end with one line that says what is wrong with them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SAID = "linmatrix cannot start: "


@contextmanager
def configured() -> Iterator[None]:
    """Within this block the settings module is known, and unusable settings end the process with status 1."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "linmatrix.settings")
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415  after its settings are named

    try:
        yield
    except ImproperlyConfigured as error:
        sys.exit(f"{SAID}{error}")
