"""Settings of the tests: the product's own, under a name and with a data folder of their own."""

import os
import tempfile

os.environ["LINMATRIX_SERVER_NAME"] = "hub.example.org"
os.environ["LINMATRIX_ALLOW_PRIVATE_ADDRESSES"] = "1"
os.environ["LINMATRIX_DATA_DIR"] = tempfile.mkdtemp(prefix="linmatrix-test-")

from linmatrix.settings import *  # noqa: F403  the environment first
