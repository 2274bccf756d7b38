#!/usr/bin/env python
"""Django's command line for linmatrix: `python manage.py help` lists what it can do."""

import os
import sys

from linmatrix.startup import configured


def main() -> None:
    # A command does not put its metrics among those of the server: each would leave files there.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    with configured():
        from django.core.management import execute_from_command_line  # noqa: PLC0415  settings first

        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
