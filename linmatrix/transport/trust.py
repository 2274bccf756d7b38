"""Which certificate authorities vouch for other servers."""

import ssl
from pathlib import Path

import certifi
import pycurl


class TrustStore:
    """The system's certificate authorities (certifi's where the system has none) and those of `extra_file`.

    A missing or unreadable file, or one without a certificate, is an OSError or ValueError at construction, so that
    a misconfigured server does not start.
    """

    def __init__(self, extra_file: str | None) -> None:
        self._file = ssl.get_default_verify_paths().cafile or certifi.where()
        self._blob: bytes | None = None
        if extra_file is not None:
            # Parsing is the check; libcurl would only complain at the first connection.
            ssl.create_default_context(cafile=extra_file)
            self._blob = Path(self._file).read_bytes() + b"\n" + Path(extra_file).read_bytes()

    def apply(self, handle: pycurl.Curl) -> None:
        """Make `handle` trust these authorities and no others.

        libcurl keeps the parsed form of a file between connections but parses a blob for each of them (some 2
        against 10 ms of CPU a connection), so the blob is only for what is in no single file.
        """
        if self._blob is None:
            handle.setopt(pycurl.CAINFO, self._file)
        else:
            handle.setopt(pycurl.CAINFO_BLOB, self._blob)
