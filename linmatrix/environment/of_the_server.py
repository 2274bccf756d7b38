"""The settings that the server's processes read."""

from functools import partial

from linmatrix.environment import values
from linmatrix.environment.setting import FILE, ITEMS, YES_NO, Setting
from linmatrix.limits import parse_limits
from linmatrix.logs import RENDERERS
from linmatrix.metrics.options import parse_address, parse_networks
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from linmatrix.transport.addresses import parse_private_networks
from linmatrix.transport.overrides import split_overrides

IDENTITY = (
    Setting(
        "LINMATRIX_SERVER_NAME",
        "linmatrix.localhost:8448",
        "a server name",
        "who this server is: it stands in every id and signature, and cannot change once others know it",
        values.server_name,
    ),
    Setting(
        "LINMATRIX_WELL_KNOWN_SERVER",
        "",
        "a server name",
        "the name that `/.well-known/matrix/server` tells others to use in place of ours; without it, nothing",
        partial(values.optional, of=values.server_name),
    ),
    Setting(
        "LINMATRIX_DATA_DIR",
        "data",
        "a folder",
        "where keys are kept, made on first use and readable by their owner only",
        values.path,
    ),
    Setting(
        "LINMATRIX_SIGNING_KEY_FILE",
        "",
        FILE,
        "the signing keys; without it `signing.key` in the data folder",
        partial(values.optional, of=values.path),
    ),
    Setting(
        "LINMATRIX_SECRET_KEY_FILE",
        "",
        FILE,
        "the key of the console's sessions; without it `django-secret-key` in the data folder",
        partial(values.optional, of=values.path),
    ),
    Setting(
        "DATABASE_URL",
        "",
        "postgres://user:password@host:port/name",
        "the PostgreSQL, needed by all but checks; `make run` brings its own without it",
        partial(values.optional, of=partial(values.url, schemes=("postgres", "postgresql", "psql", "pgsql"))),
    ),
    Setting(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "redis://host:port/number",
        "the Redis or Valkey that wakes workers and counts requests; `make run` brings its own without it",
        partial(values.url, schemes=("redis", "rediss", "unix")),
    ),
)

ROOMS = (
    Setting(
        "LINMATRIX_DEFAULT_ROOM_VERSION",
        UNSTABLE_PREFIX,
        "a room version",
        "of the rooms that are created here, where nothing else is said",
        values.room_version,
    ),
    Setting(
        "LINMATRIX_OPEN_LOCALPARTS",
        "1",
        YES_NO,
        "whether local users exist whom nobody has entered: the provider's own directory decides then",
        values.yes_or_no,
    ),
    Setting("LINMATRIX_INVITE_ALLOW", "*", f"globs, {ITEMS}", "servers whose invites reach our users", values.globs),
    Setting(
        "LINMATRIX_INVITE_DENY",
        "",
        f"globs, {ITEMS}",
        "servers whose invites do not, whatever the list above says",
        values.globs,
    ),
    Setting(
        "LINMATRIX_DEVICES_TO_ALL",
        "1",
        YES_NO,
        "whether every server may ask for devices and keys of our users, as in Matrix, where who invites needs them "
        "before a room is shared; 0: only servers that share a room with the user",
        values.yes_or_no,
    ),
)

OTHERS = (
    Setting(
        "LINMATRIX_ALLOW_PRIVATE_ADDRESSES",
        "",
        f"1, or networks, {ITEMS}",
        "private networks that peers are in; without it only public addresses are connected to, since peers choose the "
        "names that lead there",
        parse_private_networks,
    ),
    Setting(
        "LINMATRIX_CA_FILE",
        "",
        f"{FILE} (PEM)",
        "certificate authorities that are trusted besides the system's",
        partial(values.optional, of=values.file),
    ),
    Setting(
        "LINMATRIX_NOTARIES",
        "",
        f"server names, {ITEMS}",
        "asked for the keys of servers that cannot be reached: their word counts for events, never for requests",
        values.server_names,
    ),
    Setting(
        "LINMATRIX_SEND_TIMEOUT",
        "60",
        "seconds, 1 to 600",
        "a peer has to acknowledge a transaction; a worker that dies holds its peer up for half as long again",
        partial(values.number, lowest=1.0, highest=600.0),
    ),
    Setting(
        "LINMATRIX_LIMITS",
        "",
        f"name=number, {ITEMS}",
        "what other servers may cost this one, as changes to the defaults: [limits](limits.md)",
        parse_limits,
    ),
    Setting(
        "LINMATRIX_RATE_LIMITS",
        "",
        "a JSON object",
        "how often a server may ask, by endpoint: `[a second, at once]`, or null for no limit; changes to the defaults",
        values.json_object,
    ),
    Setting(
        "LINMATRIX_SERVER_OVERRIDES",
        "",
        f"name=scheme://address:port, {ITEMS}",
        "where servers are, against what DNS says; the only way to plain HTTP, for development",
        split_overrides,
    ),
)

REQUESTS = (
    Setting(
        "LINMATRIX_TRUSTED_PROXIES",
        "",
        f"1, or networks, {ITEMS}",
        "private networks of proxies that are believed who the client is; 1 where no client can connect to web itself",
        parse_private_networks,
    ),
    Setting(
        "LINMATRIX_ALLOWED_HOSTS",
        "*",
        f"host names, {ITEMS}",
        "Host headers that are answered; X-Matrix names the server anyway, so this is for the console",
        values.hosts,
    ),
    Setting(
        "LINMATRIX_CSRF_TRUSTED_ORIGINS",
        "",
        f"origins, {ITEMS}",
        "further origins whose forms the console takes: behind a proxy that changes Host",
        values.web_origins,
    ),
    Setting(
        "LINMATRIX_API_DOCUMENT",
        "0",
        YES_NO,
        "whether what this server offers to others is served as OpenAPI, to anybody",
        values.yes_or_no,
    ),
    Setting(
        "LINMATRIX_DEBUG", "0", YES_NO, "Django's pages about faults, to anybody: never on a network", values.yes_or_no
    ),
)

PROCESSES = (
    Setting(
        "LINMATRIX_DATABASE_POOL",
        "20",
        "connections, 1 to 1000",
        "a process holds at most; all together must fit PostgreSQL's max_connections",
        partial(values.whole, lowest=1, highest=1000),
    ),
    Setting(
        "LINMATRIX_WEB_THREADS",
        "16",
        "threads, 2 to 256",
        "of a web process that answer requests; peers call back while they handle ours, so few could wait in a circle",
        partial(values.whole, lowest=2, highest=256),
    ),
    Setting(
        "LINMATRIX_WEB_AFFINITY",
        "0",
        YES_NO,
        "whether each web process keeps to one core, which saves a fifth of its time; `make run` does",
        values.yes_or_no,
    ),
    Setting(
        "LINMATRIX_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING, ERROR or CRITICAL", "what is logged", values.log_level
    ),
    Setting(
        "LINMATRIX_LOG_FORMAT",
        "console",
        " or ".join(RENDERERS),
        "for people, or for what collects logs",
        partial(values.one_of, choices=tuple(RENDERERS)),
    ),
    Setting(
        "LINMATRIX_METRICS_ALLOW",
        "127.0.0.0/8,::1/128",
        f"networks, {ITEMS}",
        "that may read `/metrics`, and why this server is not ready",
        parse_networks,
    ),
    Setting(
        "LINMATRIX_METRICS_TOKEN_FILE",
        "",
        FILE,
        "whoever shows the token in it may read them from anywhere",
        partial(values.optional, of=values.path),
    ),
    Setting(
        "LINMATRIX_METRICS_LISTEN",
        "",
        "address:port",
        "where web processes, workers and beat serve metrics and health over plain HTTP besides; empty for nowhere",
        parse_address,
    ),
    Setting(
        "PROMETHEUS_MULTIPROC_DIR",
        "",
        "a folder",
        "where the processes of one machine or container put their numbers together, never shared between containers",
    ),
)
