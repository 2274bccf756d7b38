"""The command lines of a server's parts, after `python`: here, and word for word in docker-compose.yml."""

from pathlib import PurePath

# Transactions under way at once in one worker process. They wait on the network, not on the processor, and threads are
# only made when they are needed; half of them are kept from servers that are slow (federation.places).
DEFAULT_WORKER_THREADS = 64
# Past this, requests still being answered are given up when a web process stops. It is waited for in full wherever a
# peer keeps an HTTP/2 connection open.
WEB_STOP_SECONDS = 15
# Behind a front, which lets go of its connections when it is told to, only requests are waited for: a body may take 30
# seconds, a repetition may wait as long for the first one's answer.
WEB_STOP_SECONDS_BEHIND_FRONT = 60
# A request's headers: the largest honest one, Authorization, has 8 KiB at most. granian's default is 16 MiB.
MAX_HEADER_BYTES = 64 * 1024
# Until a request's headers have arrived over HTTP/1.1, and until the next ones begin.
HEADER_SECONDS = 30
# An HTTP/2 connection on which nothing comes for so long is asked for a sign of life, and closed without one. Clients
# that keep a connection to use it again do so for a minute at most, ours among them, and need not be awake for it.
HTTP2_QUIET_SECONDS = 60
HTTP2_SIGN_OF_LIFE_SECONDS = 30
# How granian's own lines are written: as all others (linmatrix.logs). From the project's folder.
LOG_CONFIG = "linmatrix/granian-logging.json"
# Migrations and static files, in one process.
PREPARE = ("-m", "linmatrix.stack.prepare")


def web(
    *,
    host: str,
    port: int,
    workers: int,
    certificate: PurePath | None = None,
    key: PurePath | None = None,
    static: PurePath,
    stop_seconds: int = WEB_STOP_SECONDS,
    header_seconds: int = HEADER_SECONDS,
    http2_quiet_seconds: int = HTTP2_QUIET_SECONDS,
    http2_sign_of_life_seconds: int = HTTP2_SIGN_OF_LIFE_SECONDS,
) -> list[str]:
    """granian, speaking TLS 1.3 with HTTP/2 or HTTP/1.1 as the peer chooses, and the admin's static files.

    Without a certificate and a key it speaks both without TLS, to a front on a network that nobody else is in.
    """
    tls = ["--ssl-certificate", str(certificate), "--ssl-keyfile", str(key), "--ssl-protocol-min", "tls1.3"]
    return [
        "-m", "granian",
        "--interface", "asgi",
        "--http", "auto",
        "--host", host,
        "--port", str(port),
        "--workers", str(workers),
        "--workers-kill-timeout", str(stop_seconds),
        "--http1-header-read-timeout", str(1000 * header_seconds),
        "--http2-max-headers-size", str(MAX_HEADER_BYTES),
        "--http2-keep-alive-interval", str(1000 * http2_quiet_seconds),
        "--http2-keep-alive-timeout", str(http2_sign_of_life_seconds),
        "--no-ws",
        "--log-config", LOG_CONFIG,
        *(tls if certificate and key else ()),
        "--static-path-mount", str(static),
        "linmatrix.asgi:application",
    ]  # fmt: skip


def worker(*, threads: int = DEFAULT_WORKER_THREADS) -> list[str]:
    """A Celery worker. Any number may run: what they do is leased in the database, so they need not hear each other."""
    return [
        "-m", "celery",
        "--quiet",
        "-A", "linmatrix.celery",
        "worker",
        "--pool", "threads",
        "--concurrency", str(threads),
        "--loglevel", "INFO",
        "--without-gossip",
        "--without-mingle",
    ]  # fmt: skip


def beat(*, schedule: PurePath) -> list[str]:
    """Celery's clock, one per server. Were two to run, they would wake workers twice, and no more."""
    return [
        "-m", "celery",
        "--quiet",
        "-A", "linmatrix.celery",
        "beat",
        "--loglevel", "INFO",
        "--schedule", str(schedule),
        "--pidfile=",
    ]  # fmt: skip


def manage(*arguments: str) -> list[str]:
    """Django's command line."""
    return ["manage.py", *arguments]
