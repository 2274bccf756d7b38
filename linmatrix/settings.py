"""Settings, all from the environment: the same code is demo, test and deployment.

Names are LINMATRIX_*, and DATABASE_URL and REDIS_URL as everywhere. What a file must keep secret (Django's
key, our signing key) is generated into the data folder on first start, readable by its owner only.
"""

import os
import secrets
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import parse_server_name
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
ALLOW_PRIVATE_ADDRESSES = env.bool("LINMATRIX_ALLOW_PRIVATE_ADDRESSES", default=False)
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
    _database["OPTIONS"] = {
        **_database.get("OPTIONS", {}),
        # One pool per process, shared by its threads; a request takes a connection and gives it back.
        "pool": {"min_size": 1, "max_size": env.int("LINMATRIX_DATABASE_POOL", default=20), "timeout": 10},
        # Executions after which a connection has PostgreSQL prepare a statement of `linmatrix.prepared`.
        "prepare_threshold": 5,
        # A stuck transaction must neither hold a room's lock for ever nor wait for one without end.
        "options": "-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s",
    }

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
# Changes to how often a server may ask, by endpoint: {"event": [per second, at once], "backfill": null}.
RATE_LIMITS: dict[str, list[float] | None] = env.json("LINMATRIX_RATE_LIMITS", default={})
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
# The database is the queue: a message is only a wake-up, and one that cannot be sent now need not be kept.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "socket_timeout": 5}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "wake destinations that are due": {"task": "federation.tasks.sweep", "schedule": 5.0},
    "forget servers that were asked for keys": {"task": "keys.tasks.prune_key_fetches", "schedule": 3600.0},
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
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LINMATRIX_LOG_LEVEL", default="INFO")},
}
