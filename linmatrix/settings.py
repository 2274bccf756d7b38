"""Settings, all from the environment: the same code is demo, test and deployment.

Names are LINMATRIX_*, and DATABASE_URL and REDIS_URL as everywhere. What a file must keep secret (Django's
key, our signing key) is generated into the data folder on first start, readable by its owner only.
"""

import json
import os
import secrets
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from linmatrix.limits import InvalidLimit, Limits, parse_limits
from linmatrix.openapi.components import COMPONENTS
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import parse_server_name
from linmatrix.transport.addresses import PrivateNetworks, parse_private_networks
from linmatrix.transport.overrides import split_overrides

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

DATA_DIR = Path(env.str("LINMATRIX_DATA_DIR", default=str(BASE_DIR / "data")))


def _secret(path: Path) -> str:
    """The secret in `path`, made on first use. Racing processes agree: the first file stays."""
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


SECRET_KEY = _secret(Path(env.str("LINMATRIX_SECRET_KEY_FILE", default=str(DATA_DIR / "django-secret-key"))))
DEBUG = env.bool("LINMATRIX_DEBUG", default=False)

# Who we are. The name stands in every id and signature that we make: it cannot change later.
SERVER_NAME: str = env.str("LINMATRIX_SERVER_NAME", default="linmatrix.localhost:8448")
SIGNING_KEY_FILE = Path(env.str("LINMATRIX_SIGNING_KEY_FILE", default=str(DATA_DIR / "signing.key")))
DEFAULT_ROOM_VERSION = env.str(
    "LINMATRIX_DEFAULT_ROOM_VERSION", default="org.matrix.i-d.ralston-mimi-linearized-matrix.02"
)
# Whether local users exist whom nobody has entered: the provider's own directory decides then.
OPEN_LOCALPARTS = env.bool("LINMATRIX_OPEN_LOCALPARTS", default=True)

# Servers whose invites reach our users, and servers whose do not, as globs; the second list comes first.
INVITE_ALLOW: list[str] = env.list("LINMATRIX_INVITE_ALLOW", default=["*"])
INVITE_DENY: list[str] = env.list("LINMATRIX_INVITE_DENY", default=[])

# How other servers are reached.
# Public addresses, and no others unless this says so: 1 for all private networks, or those that peers are in,
# 10.1.0.0/16,fd00:1::/32. Peers choose the names that lead there, so everything in them can be asked for.
try:
    ALLOW_PRIVATE_ADDRESSES: PrivateNetworks = parse_private_networks(
        env.str("LINMATRIX_ALLOW_PRIVATE_ADDRESSES", default="")
    )
except ValueError as _error:
    raise ImproperlyConfigured(f"LINMATRIX_ALLOW_PRIVATE_ADDRESSES: {_error}") from None
CA_FILE: str | None = env.str("LINMATRIX_CA_FILE", default="") or None
# Where servers are, against what DNS says: peer.localhost:3500=http://127.0.0.1:3500,other.example=https://10.0.0.5:8448
# For development. Nothing else lets a request go out without TLS.
try:
    SERVER_OVERRIDES: dict[str, str] = split_overrides(env.str("LINMATRIX_SERVER_OVERRIDES", default=""))
except ValueError as _error:
    raise ImproperlyConfigured(f"LINMATRIX_SERVER_OVERRIDES: {_error}") from None
# The name that /.well-known/matrix/server tells others to use in place of ours; empty for none.
WELL_KNOWN_SERVER: str = env.str("LINMATRIX_WELL_KNOWN_SERVER", default="")
try:
    if WELL_KNOWN_SERVER:
        parse_server_name(WELL_KNOWN_SERVER)
except Malformed as _error:
    raise ImproperlyConfigured(f"LINMATRIX_WELL_KNOWN_SERVER: {_error.reason}") from None
# Seconds that a peer has to acknowledge a transaction. A worker that dies holds its peer up for half as long again.
SEND_TIMEOUT: float = env.float("LINMATRIX_SEND_TIMEOUT", default=60.0)

# Servers that are asked for the keys of those that cannot be reached: their word counts for events, never for requests.
NOTARIES: list[str] = env.list("LINMATRIX_NOTARIES", default=[])

# X-Matrix names the destination; Host takes no part in deciding who we are.
ALLOWED_HOSTS = env.list("LINMATRIX_ALLOWED_HOSTS", default=["*"])
CSRF_TRUSTED_ORIGINS = env.list("LINMATRIX_CSRF_TRUSTED_ORIGINS", default=[])
SECURE_PROXY_SSL_HEADER = None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SECURE_CONTENT_TYPE_NOSNIFF = True

INSTALLED_APPS = [
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
]
MIDDLEWARE = [
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
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = ["linmatrix.formats"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Without DATABASE_URL there is no database: checks and makemigrations need none, and nothing else should guess.
DATABASES = {"default": env.db("DATABASE_URL")} if "DATABASE_URL" in os.environ else {}
for _database in DATABASES.values():
    _database["ENGINE"] = "linmatrix.database"
    _database["OPTIONS"] = {
        **_database.get("OPTIONS", {}),
        # One pool per process, shared by its threads; a request takes a connection and gives it back.
        # While PostgreSQL is away, pauses between attempts to connect double until this time is over, and then begin
        # anew: with psycopg's own five minutes we would be away for as long again as PostgreSQL was.
        "pool": {
            "min_size": 1,
            "max_size": env.int("LINMATRIX_DATABASE_POOL", default=20),
            "timeout": 10,
            "reconnect_timeout": 5,
        },
        # Executions after which a connection has PostgreSQL prepare a statement of `linmatrix.prepared`.
        "prepare_threshold": 5,
        # A stuck transaction must neither hold a room's lock for ever nor wait for one without end.
        "options": "-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
    }

# What other servers may cost us, as changes to the defaults: join_seconds=90,gap_pages=50 (docs/limits.md lists all).
try:
    LIMITS: Limits = parse_limits(env.str("LINMATRIX_LIMITS", default=""))
except InvalidLimit as _error:
    raise ImproperlyConfigured(str(_error)) from None

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
# Changes to how often a server may ask, by endpoint: {"event": [per second, at once], "backfill": null}.
RATE_LIMITS: dict[str, list[float] | None] = json.loads(env.str("LINMATRIX_RATE_LIMITS", default="") or "{}")
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
API_DOCUMENT = env.bool("LINMATRIX_API_DOCUMENT", default=False)
SPECTACULAR_SETTINGS = {
    "TITLE": "linmatrix",
    "DESCRIPTION": "The federation API of a Linearized Matrix server (draft-ralston-mimi-linearized-matrix).",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "APPEND_COMPONENTS": COMPONENTS,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "linmatrix.logs.BoundedFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "filters": {"sampling": {"()": "linmatrix.logs.Sampling"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["sampling"]}},
    "root": {"handlers": ["console"], "level": env.str("LINMATRIX_LOG_LEVEL", default="INFO")},
    # A stranger's bad Host header is answered with 400, and no error of ours with a traceback.
    "loggers": {"django.security.DisallowedHost": {"level": "CRITICAL"}},
}
