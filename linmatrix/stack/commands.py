"""The command lines of a server's parts, after `python`: here, and word for word in docker-compose.yml."""

from pathlib import PurePath

# Sixteen transactions under way at once in one worker process: they wait on the network, not on the processor.
DEFAULT_WORKER_THREADS = 16
# Past this, requests still being answered are given up when a web process stops. It is waited for in full wherever a
# peer keeps an HTTP/2 connection open.
WEB_STOP_SECONDS = 15
# A request's headers: the largest honest one, Authorization, has 8 KiB at most. granian's default is 16 MiB.
MAX_HEADER_BYTES = 64 * 1024
# Migrations and static files, in one process.
PREPARE = ("-m", "linmatrix.stack.prepare")


def web(
    *,
    host: str,
    port: int,
    workers: int,
    certificate: PurePath,
    key: PurePath,
    static: PurePath,
    stop_seconds: int = WEB_STOP_SECONDS,
) -> list[str]:
    """granian, speaking TLS 1.3 with HTTP/2 or HTTP/1.1 as the peer chooses, and the admin's static files."""
    return [
        "-m", "granian",
        "--interface", "asgi",
        "--http", "auto",
        "--host", host,
        "--port", str(port),
        "--workers", str(workers),
        "--workers-kill-timeout", str(stop_seconds),
        "--http2-max-headers-size", str(MAX_HEADER_BYTES),
        "--no-ws",
        "--ssl-certificate", str(certificate),
        "--ssl-keyfile", str(key),
        "--ssl-protocol-min", "tls1.3",
        "--static-path-mount", str(static),
        "linmatrix.asgi:application",
    ]  # fmt: skip


def worker(*, threads: int = DEFAULT_WORKER_THREADS) -> list[str]:
    """A Celery worker. Any number may run: what they do is leased in the database, so they need not hear each other."""
    return [
        "-m", "celery",
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
        "-A", "linmatrix.celery",
        "beat",
        "--loglevel", "INFO",
        "--schedule", str(schedule),
        "--pidfile=",
    ]  # fmt: skip


def manage(*arguments: str) -> list[str]:
    """Django's command line."""
    return ["manage.py", *arguments]
