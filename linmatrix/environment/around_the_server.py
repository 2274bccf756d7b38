"""The settings that are read by what stands around the server: the deployment, `make run`, tests and benchmarks."""

from functools import partial

from linmatrix.environment import values
from linmatrix.environment.setting import ITEMS, Setting

FRONT = (
    Setting(
        "LINMATRIX_SITES",
        "https://SERVER_NAME, https://SERVER_NAME:8448",
        f"addresses, {ITEMS}",
        "what the front answers for and gets certificates for: its own names, and the server name where "
        "it is to answer `.well-known` itself",
        reader="deployment",
    ),
    Setting(
        "LINMATRIX_TLS",
        "",
        "an e-mail address, `internal`, or two files",
        "who hears of certificates that are not renewed; an authority of the front's own; or a certificate and key",
        reader="deployment",
    ),
    Setting(
        "LINMATRIX_TLS_FOLDER", "./tls", "a folder", "where those files are, `/tls` for the front", reader="deployment"
    ),
    Setting(
        "LINMATRIX_FRONT_OPTIONS",
        "/tls/options/*",
        "files",
        "with further global options of Caddy: another certificate authority, say",
        reader="deployment",
    ),
    Setting(
        "LINMATRIX_ADMIN_NETWORKS",
        "private_ranges",
        "networks, by spaces",
        "from which the console is served; others get 404. `0.0.0.0/0 ::/0` for all",
        reader="deployment",
    ),
    Setting("LINMATRIX_PUBLIC_PORT", "8448", "a port", "where the front takes federation", reader="deployment"),
    Setting(
        "LINMATRIX_WEB_HOST",
        "web",
        "a host name",
        "whose addresses are the web processes, for the front",
        reader="deployment",
    ),
    Setting("LINMATRIX_WEB_PORT", "8448", "a port", "where they listen", reader="deployment"),
    Setting(
        "LINMATRIX_DNS", "udp/127.0.0.11:53", "an address", "whom the front asks for that name", reader="deployment"
    ),
    Setting("LINMATRIX_WEB_MEMORY", "1g", "bytes", "a web container may use", reader="deployment"),
    Setting("LINMATRIX_WORKER_MEMORY", "1g", "bytes", "a worker container may use", reader="deployment"),
    Setting("LINMATRIX_POSTGRES_MEMORY", "4g", "bytes", "the database may use", reader="deployment"),
    Setting(
        "POSTGRES_PASSWORD",
        "",
        "letters and digits",
        "the database's, made up once: it stands in a URL",
        reader="deployment",
    ),
)

STACK = (
    Setting("LINMATRIX_HOST", "127.0.0.1", "an address", "where `make run` listens", reader="make run"),
    Setting(
        "LINMATRIX_WEB_WORKERS",
        "1",
        "processes, 1 to 64",
        "that answer requests",
        partial(values.whole, lowest=1, highest=64),
        reader="make run",
    ),
)

DEVELOPMENT = (
    Setting(
        "LINMATRIX_RACE", "", "all", "the race with every number of processes, and more rooms", reader="development"
    ),
    Setting("LINMATRIX_FAULTS", "", "all", "every fault at both servers", reader="development"),
    Setting("LINMATRIX_HISTORIES", "", "a number", "of random histories", reader="development"),
    Setting(
        "LINMATRIX_PICTURES", "", "a folder", "where the console's tests leave their pictures", reader="development"
    ),
    Setting(
        "LINMATRIX_BENCH_SPOILED",
        "",
        "a file",
        "while it is there, the servers that benchmarks keep for it misbehave; set by the benchmarks",
        reader="development",
    ),
)
