"""A database as years of use would leave it (filling.sql), made within a minute or two."""

from pathlib import Path

from django.contrib.auth.models import User
from django.db import connection

from bench.inside import encrypted

FILE = Path(__file__).with_suffix(".sql")


def fill(events: int, rooms: int, destinations: int, devices: int) -> None:
    """Fill an empty database. One room is a real one, with an MLS group of so many `devices`."""
    User.objects.create_superuser("operator")
    text = FILE.read_text()
    for name, number in {":events": events, ":rooms": rooms, ":destinations": destinations}.items():
        text = text.replace(name, str(number))
    encrypted.commits("participant.example.org", devices, 0)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for statement in text.split("\n;\n"):
            if statement.strip():
                cursor.execute(statement)
        cursor.execute("VACUUM ANALYZE")
