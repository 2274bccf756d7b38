"""`python -m linmatrix.stack.prepare`: bring a server's schema and the admin's static files up to date.

Two of Django's commands in one process: starting Django takes longer than either has to do most of the time.
"""

import django
from django.core.management import call_command

from linmatrix.startup import configured


def main() -> None:
    """Run `migrate` and `collectstatic`."""
    with configured():
        django.setup()
    call_command("migrate", interactive=False)
    call_command("collectstatic", interactive=False)


if __name__ == "__main__":
    main()
