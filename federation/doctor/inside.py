"""This server from inside: what readiness looks at, and the files that only it should be able to read."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from federation.doctor.finding import Finding
from linmatrix.environment.reading import unknown
from linmatrix.health.checks import check

ADVICE = {
    "database": "See that PostgreSQL runs and that DATABASE_URL leads to it.",
    "migrations": "Run manage.py migrate with this version, before its processes start.",
    "clock": "Have both machines set their clocks by NTP.",
    "signing_key": "Put the right file back from a backup, or see docs/operations.md, Keys.",
    "broker": "See that Redis or Valkey runs and that REDIS_URL leads to it; nothing is delivered meanwhile.",
    "worker": "Start a worker, or look at its log: nothing is delivered meanwhile.",
    "beat": "Start beat, or look at its log: what was not delivered is not tried again meanwhile.",
}
PRIVATE_MODE = 0o077


def look() -> Iterator[Finding]:
    """All of it, in the order in which it should be put right."""
    for name, meant in unknown(os.environ).items():
        advice = f"Did you mean {meant}?" if meant else "Remove it; docs/settings.md lists all settings."
        yield Finding("settings", f"{name} is set, and there is no such setting", advice)
    for name, finding in check().items():
        yield Finding(name.replace("_", " "), finding.reason or "well", "" if finding.ok else ADVICE[name])
    yield _folder(settings.DATA_DIR)
    for file in (settings.SIGNING_KEY_FILE, settings.SECRET_KEY_FILE):
        if file.exists():
            yield _private(file)


def _folder(folder: Path) -> Finding:
    subject = "data folder"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding(subject, f"{folder} cannot be written to", "Let the user of this process own the folder.")
    return Finding(subject, f"{folder} can be written to")


def _private(file: Path) -> Finding:
    mode = stat.S_IMODE(file.stat().st_mode)
    subject = file.name
    if mode & PRIVATE_MODE:
        return Finding(subject, f"others may read {file} (mode {mode:o})", f"chmod 600 {file}")
    return Finding(subject, "only its owner may read it")
