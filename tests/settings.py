"""Settings of the tests: the product's own, under a name and with a data folder of their own."""

import json
import os
import tempfile
from pathlib import Path

from linmatrix.stack.certificates import Authority

os.environ["LINMATRIX_SERVER_NAME"] = "hub.example.org"
os.environ["LINMATRIX_ALLOW_PRIVATE_ADDRESSES"] = "1"
# Tables of cases ask more often than a server should; tests of the limits set their own.
UNLIMITED = [
    "backfill", "event", "invite", "make_join", "make_knock", "make_leave",
    "send_join", "send_knock", "send_leave", "state", "state_ids",
    "user_device", "user_devices", "user_keys_claim", "user_keys_query",
]  # fmt: skip
os.environ["LINMATRIX_RATE_LIMITS"] = json.dumps(dict.fromkeys(UNLIMITED))
# Each process of a run has its own, within the folder that the run removes.
_scratch = Path(os.environ.get("LINMATRIX_DATA_DIR", tempfile.gettempdir()))
_scratch.mkdir(parents=True, exist_ok=True)
os.environ["LINMATRIX_DATA_DIR"] = tempfile.mkdtemp(prefix="tests-", dir=_scratch)

# The authority of the peers that tests talk to over TLS.
TEST_AUTHORITY = Authority(Path(os.environ["LINMATRIX_DATA_DIR"]) / "tls")
os.environ["LINMATRIX_CA_FILE"] = str(TEST_AUTHORITY.certificate_file)

from linmatrix.settings import *  # noqa: E402, F403  the environment first

# A connection per thread that the test can close: a pool may be opening one just when the database is dropped. The
# scenarios, whose servers are real, use the pool.
for database in DATABASES.values():  # noqa: F405
    database["OPTIONS"].pop("pool")

INSTALLED_APPS = [*INSTALLED_APPS, "tests.support.emptying"]  # noqa: F405
