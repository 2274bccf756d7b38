"""Django's system checks about the environment: `manage.py check`, and before every other command."""

import os
from typing import Any

from django.core.checks import CheckMessage, Warning, register

from linmatrix.environment.reading import unknown


@register
def known_names(**_: Any) -> list[CheckMessage]:
    """Names in the environment that nothing reads: a typo would else change nothing, unseen."""
    return [
        Warning(
            f"{name} is set, and there is no such setting.",
            hint=f"Did you mean {meant}?" if meant else "docs/settings.md lists them all.",
            id="linmatrix.W001",
        )
        for name, meant in unknown(os.environ).items()
    ]
