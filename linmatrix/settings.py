"""Settings, all from the environment: the same code is demo, test and deployment.

Names are LINMATRIX_*, and DATABASE_URL and REDIS_URL as everywhere; linmatrix.environment knows them all, their
defaults and what they take, and docs/settings.md lists them. What a file must keep secret (Django's key, our signing
key) is generated into the data folder on first start, readable by its owner only.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from linmatrix.console.appearance import appearance
from linmatrix.environment.reading import InvalidSettings, read
from linmatrix.limits import Limits
from linmatrix.metrics.options import Network
from linmatrix.openapi.components import COMPONENTS
from linmatrix.transport.addresses import PrivateNetworks

BASE_DIR = Path(__file__).resolve().parent.parent
try:
    configured = read({"LINMATRIX_DATA_DIR": str(BASE_DIR / "data"), **os.environ})
except InvalidSettings as _error:
    raise ImproperlyConfigured(str(_error)) from None

DATA_DIR: Path = configured["LINMATRIX_DATA_DIR"]


def _secret(path: Path) -> str:
    """The secret in `path`, made on first use. Racing processes agree: the first file stays."""
    try:
        return _made(path)
    except OSError as error:
        raise ImproperlyConfigured(
            f"LINMATRIX_DATA_DIR: {path} cannot be made or read: {error.strerror}; "
            "let this user write to the folder, or name another one"
        ) from None


def _made(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


SECRET_KEY_FILE: Path = configured["LINMATRIX_SECRET_KEY_FILE"] or DATA_DIR / "django-secret-key"
SECRET_KEY = _secret(SECRET_KEY_FILE)
DEBUG: bool = configured["LINMATRIX_DEBUG"]

# Who we are. The name stands in every id and signature that we make: it cannot change later.
SERVER_NAME: str = configured["LINMATRIX_SERVER_NAME"]
SIGNING_KEY_FILE: Path = configured["LINMATRIX_SIGNING_KEY_FILE"] or DATA_DIR / "signing.key"
DEFAULT_ROOM_VERSION: str = configured["LINMATRIX_DEFAULT_ROOM_VERSION"]
# Whether local users exist whom nobody has entered: the provider's own directory decides then.
OPEN_LOCALPARTS: bool = configured["LINMATRIX_OPEN_LOCALPARTS"]

# Servers whose invites reach our users, and servers whose do not, as globs; the second list comes first.
INVITE_ALLOW: list[str] = configured["LINMATRIX_INVITE_ALLOW"]
INVITE_DENY: list[str] = configured["LINMATRIX_INVITE_DENY"]
# Whether every server may ask for devices and keys of our users, or only those that share a room with the user.
DEVICES_TO_ALL: bool = configured["LINMATRIX_DEVICES_TO_ALL"]

# How other servers are reached.
# Public addresses, and no others unless this says so: 1 for all private networks, or those that peers are in,
# 10.1.0.0/16,fd00:1::/32. Peers choose the names that lead there, so everything in them can be asked for.
ALLOW_PRIVATE_ADDRESSES: PrivateNetworks = configured["LINMATRIX_ALLOW_PRIVATE_ADDRESSES"]
CA_FILE: str | None = str(configured["LINMATRIX_CA_FILE"] or "") or None
# Where servers are, against what DNS says: peer.localhost:3500=http://127.0.0.1:3500,other.example=https://10.0.0.5:8448
# For development. Nothing else lets a request go out without TLS.
SERVER_OVERRIDES: dict[str, str] = configured["LINMATRIX_SERVER_OVERRIDES"]
# The name that /.well-known/matrix/server tells others to use in place of ours; empty for none.
WELL_KNOWN_SERVER: str = configured["LINMATRIX_WELL_KNOWN_SERVER"] or ""
# Seconds that a peer has to acknowledge a transaction. A worker that dies holds its peer up for half as long again.
SEND_TIMEOUT: float = configured["LINMATRIX_SEND_TIMEOUT"]

# Servers that are asked for the keys of those that cannot be reached: their word counts for events, never for requests.
NOTARIES: list[str] = configured["LINMATRIX_NOTARIES"]

# Threads of a web process that answer requests, each of which may hold a database connection; whether it keeps to a
# core (linmatrix.affinity).
WEB_THREADS: int = configured["LINMATRIX_WEB_THREADS"]
WEB_AFFINITY: bool = configured["LINMATRIX_WEB_AFFINITY"]
# Proxies that are believed who the client is (linmatrix.forwarding), in the form of LINMATRIX_ALLOW_PRIVATE_ADDRESSES.
TRUSTED_PROXIES: PrivateNetworks = configured["LINMATRIX_TRUSTED_PROXIES"]

# X-Matrix names the destination; Host takes no part in deciding who we are.
ALLOWED_HOSTS: list[str] = configured["LINMATRIX_ALLOWED_HOSTS"]
CSRF_TRUSTED_ORIGINS: list[str] = configured["LINMATRIX_CSRF_TRUSTED_ORIGINS"]
SECURE_PROXY_SSL_HEADER = None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
# Where we answer by TLS once, browsers use nothing else for a year.
SECURE_HSTS_SECONDS = 365 * 24 * 3600
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS for subdomains, and
    "security.W021",  # in browsers' own lists: the domain is the operator's, who uses it for more than this server
    "security.W008",  # redirects to TLS: nothing but a front, which does that, and health checks come without it
]

INSTALLED_APPS = [
    "unfold",  # before the admin, whose templates it replaces
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "keys.apps.KeysConfig",
    "rooms.apps.RoomsConfig",
    "federation.apps.FederationConfig",
    "linmatrix.console.apps.ConsoleConfig",
    "linmatrix.console.rooms.apps.ActingConfig",
]
MIDDLEWARE = [
    "linmatrix.access_log.AccessLog",  # the outermost: it counts and logs whatever the others answer
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "linmatrix.urls"
WSGI_APPLICATION = "linmatrix.wsgi.application"
APPEND_SLASH = False  # a trailing slash makes an unknown endpoint (draft, "Requests and Responses")
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the apps, so that what stands in unfold's way of capitalizing server names is found first.
        "DIRS": [BASE_DIR / "linmatrix" / "console" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
UNFOLD = appearance(SERVER_NAME)
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"  # unfold's form does not say where to go
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = ["linmatrix.formats"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Without DATABASE_URL there is no database: checks and makemigrations need none, and nothing else should guess.
DATABASES = {"default": environ.Env.db_url_config(url)} if (url := configured["DATABASE_URL"]) else {}
for _database in DATABASES.values():
    _database["ENGINE"] = "linmatrix.database"
    _database["OPTIONS"] = {
        **_database.get("OPTIONS", {}),
        # One pool per process, shared by its threads; a request takes a connection and gives it back.
        # While PostgreSQL is away, pauses between attempts to connect double until this time is over, and then begin
        # anew: with psycopg's own five minutes we would be away for as long again as PostgreSQL was.
        "pool": {
            "min_size": 1,
            "max_size": configured["LINMATRIX_DATABASE_POOL"],
            "timeout": 10,
            "reconnect_timeout": 5,
        },
        # Executions after which a connection has PostgreSQL prepare a statement of `linmatrix.prepared`.
        "prepare_threshold": 5,
        # A stuck transaction must neither hold a room's lock for ever nor wait for one without end.
        "options": "-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
    }

# What other servers may cost us, as changes to the defaults: join_seconds=90,gap_pages=50 (docs/limits.md lists all).
LIMITS: Limits = configured["LINMATRIX_LIMITS"]

REDIS_URL: str = configured["REDIS_URL"]
# Changes to how often a server may ask, by endpoint: {"event": [per second, at once], "backfill": null}.
RATE_LIMITS: dict[str, list[float] | None] = configured["LINMATRIX_RATE_LIMITS"]
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
# No more than its threads can take: what one worker has fetched no other one does, and its threads may be waiting.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# The database is the queue: a message is only a wake-up, and one that cannot be sent now need not be kept.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Workers and beat look for a broker that is away until it is back. By default they end after a hundred attempts, within
# the hour, and nobody would deliver anything any more.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    # What a worker has taken is not noted in Redis until it is done: twice the commands, for messages of which none has
    # to arrive. And with kombu 5.7 a worker that is to acknowledge one after Redis was away ends with an error.
    "ack_emulation": False,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "wake destinations that are due": {"task": "federation.tasks.sweep", "schedule": 5.0},
    "record the dashboard's figures": {
        "task": "linmatrix.console.tasks.record_figures",
        "schedule": 60.0,
        "options": {"expires": 60.0},
    },
    # Where no worker was there for an hour, one run makes up for all that were missed.
    "delete what nothing needs any more": {
        "task": "federation.tasks.keep_house",
        "schedule": 3600.0,
        "options": {"expires": 3600.0},
    },
}

# Bodies are limited by linmatrix.asgi before Django sees them, and parsed strictly by federation.views.base.
DATA_UPLOAD_MAX_MEMORY_SIZE = None
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["federation.authentication.XMatrixAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "federation.negotiation.AlwaysJson",
    "EXCEPTION_HANDLER": "federation.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "linmatrix.openapi.document.FederationSchema",
}

# Whether /openapi.json says what this server offers to others; `manage.py spectacular` says it in any case.
API_DOCUMENT: bool = configured["LINMATRIX_API_DOCUMENT"]
SPECTACULAR_SETTINGS = {
    "TITLE": "linmatrix",
    "DESCRIPTION": "The federation API of a Linearized Matrix server (draft-ralston-mimi-linearized-matrix).",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "APPEND_COMPONENTS": COMPONENTS,
}

# Who may read /metrics, and why this server is not ready: networks, loopback unless this says otherwise, and whoever
# shows the token in this file. None of it is for the public; linmatrix.monitoring says what that means behind a proxy.
METRICS_ALLOW: Sequence[Network] = configured["LINMATRIX_METRICS_ALLOW"]
METRICS_TOKEN_FILE: Path | None = configured["LINMATRIX_METRICS_TOKEN_FILE"]
# Where web processes, workers and beat serve metrics and health over plain HTTP besides; empty for nowhere.
METRICS_LISTEN: tuple[str, int] | None = configured["LINMATRIX_METRICS_LISTEN"]

# console, for people, or json, for what collects logs; granian's first process takes it from the environment itself.
LOG_FORMAT: str = configured["LINMATRIX_LOG_FORMAT"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "linmatrix.logs.BoundedFormatter", "form": LOG_FORMAT}},
    "filters": {"sampling": {"()": "linmatrix.logs.Sampling"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["sampling"]}},
    "root": {"handlers": ["console"], "level": configured["LINMATRIX_LOG_LEVEL"]},
    "loggers": {
        # A stranger's bad Host header is answered with 400, and no error of ours with a traceback.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        # Refusals have their line from linmatrix.access_log, which tells no path; faults of ours come with a traceback.
        "django.request": {"level": "ERROR"},
        # A delivery has its line from federation.delivery; that a task came and went would be two more.
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}
