"""What has to work, looked at from inside: the answer of /health/ready.

Balancers take a process out of service that is not ready, so *required* is only what it cannot serve requests without:
the database with this version's tables, a clock that agrees with the database's (leases and back-off are times that
several machines compare), and a key to sign with. All else is told as a warning, with the server *degraded*:

- The broker, workers, beat. Without them nothing is delivered, but requests are answered, and what comes in is stored
  and delivered later. Taking the web processes away would turn a delay into an outage.
- A key file that has become unusable, while the key is still in memory: signing goes on with it (`keys.local`), and
  refusing requests would turn an operator's slip into an outage at once, instead of at the next start.

Each look has a time limit, and goes on in a thread of its own where it hangs (`linmatrix.bounded`): an answer comes
within `LIMIT_SECONDS` whatever hangs. Looks are repeated at most once a second, whoever asks how often.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import psycopg
import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.migrations.loader import MigrationLoader

from keys import key_file
from keys.local import own_keys, server_keys
from linmatrix.bounded import Bounded
from linmatrix.database.probe import probe
from linmatrix.health import pulse

LIMIT_SECONDS = 2.5
FRESH_SECONDS = 1.0
SKEW_SECONDS = 5.0
"""How far our clock and the database's may be apart. Leases are renewed at a fraction of a minute."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look has found: `reason` says what is wrong, empty when all is well."""

    reason: str = ""
    required: bool = True

    @property
    def ok(self) -> bool:
        return not self.reason


Findings = Mapping[str, Finding]


def _now() -> datetime:
    return datetime.now(UTC)


def database(*, now: Callable[[], datetime] = _now) -> Findings:
    """Whether it answers, has the tables of this version, and has our time."""
    try:
        with probe() as cursor:
            before = now()
            row = cursor.execute("SELECT clock_timestamp()").fetchone()
            after = now()
            cursor.execute("SELECT app, name FROM django_migrations")
            applied = set(cursor.fetchall())
    except psycopg.errors.UndefinedTable:
        return {"database": Finding(), "migrations": Finding("no migration has been applied: run manage.py migrate")}
    except psycopg.Error as error:
        return {"database": Finding(f"it does not answer: {_one_line(error)}")}
    assert row is not None
    return {"database": Finding(), "migrations": _migrations(applied), "clock": _clock(row[0], before, after)}


def _migrations(applied: set[tuple[str, str]]) -> Finding:
    missing = sorted(_known_migrations() - applied)
    if not missing:
        return Finding()
    app, name = missing[0]
    return Finding(f"{len(missing)} are not applied, {app}.{name} first: run manage.py migrate")


@cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    """Those of this version, (app, name)."""
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations or ())


def _clock(theirs: datetime, before: datetime, after: datetime) -> Finding:
    """What of a difference is not explained by the time that the question took."""
    ahead, behind = (before - theirs).total_seconds(), (theirs - after).total_seconds()
    if max(ahead, behind) <= SKEW_SECONDS:
        return Finding()
    which = "ahead of" if ahead > behind else "behind"
    return Finding(f"ours is {max(ahead, behind):.1f} s {which} the database's: set the clocks by NTP")


def signing_key() -> Findings:
    """Whether there is a key to sign with, and it is the one in the file and the one that others are told."""
    try:
        keys = own_keys()
    except ImproperlyConfigured as error:
        return {"signing_key": Finding(str(error))}
    published = server_keys(int(time.time() * 1000))["verify_keys"]
    if keys.signing.key_id not in published:
        return {"signing_key": Finding(f"{keys.signing.key_id} signs and is not published")}
    try:
        in_file = key_file.load(settings.SIGNING_KEY_FILE)
    except (ImproperlyConfigured, OSError) as error:
        reason = f"the file cannot be used, signing goes on with {keys.signing.key_id} until the next start: {error}"
        return {"signing_key": Finding(reason, required=False)}
    if in_file.signing.public_key != own_keys().signing.public_key:
        return {"signing_key": Finding(f"the file has another key than {keys.signing.key_id}, which signs")}
    return {"signing_key": Finding()}


def broker() -> Findings:
    """Whether it answers, and workers and beat have given signs of life through it."""
    try:
        ages = pulse.ages()
    except (redis.RedisError, OSError) as error:
        return {"broker": Finding(f"it does not answer: {_one_line(error)}", required=False)}
    return {"broker": Finding(required=False)} | {who: _alive(age) for who, age in ages.items()}


def _alive(age: float | None) -> Finding:
    if age is None:
        return Finding("no sign of life within the last hour", required=False)
    if age > pulse.LATE_SECONDS:
        return Finding(f"the last sign of life came {age:.0f} s ago", required=False)
    return Finding(required=False)


_LOOKS = {
    "database": (Bounded(database, fresh_seconds=FRESH_SECONDS), ("database", "migrations", "clock"), True),
    "signing_key": (Bounded(signing_key, fresh_seconds=FRESH_SECONDS), ("signing_key",), True),
    "broker": (Bounded(broker, fresh_seconds=FRESH_SECONDS), ("broker", pulse.WORKER, pulse.BEAT), False),
}
"""By the name of its first finding: the look, the findings it has, and whether they are required."""


def check(*, required_only: bool = False) -> Findings:
    """All findings, within `LIMIT_SECONDS`. A finding that could not be made says why.

    `required_only`: those that decide whether it is ready, so that who wants to know no more, a balancer with little
    patience, does not wait for a broker that hangs.
    """
    end = time.monotonic() + LIMIT_SECONDS
    looks = {first: look for first, look in _LOOKS.items() if look[2] or not required_only}
    answers = {first: look.ask() for first, (look, _, _) in looks.items()}
    findings: dict[str, Finding] = {}
    for first, (look, names, required) in looks.items():
        try:
            found = answers[first].result(timeout=max(0.0, end - time.monotonic()))
        except NotInTime:
            found = {first: Finding(f"no answer within {max(look.hangs_for(), LIMIT_SECONDS):.0f} s", required)}
        except Exception as error:  # noqa: BLE001  a look that fails is a finding, too
            found = {first: Finding(f"{type(error).__name__}: {_one_line(error)}", required)}
        unknown = Finding(f"not known: {first} does not answer", required)
        findings |= {name: found.get(name, unknown) for name in names}
    return findings


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
