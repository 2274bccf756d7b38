"""Where the Node program can be run: its packages are installed once, beside Python's own, and never into the tree."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("client.mjs", "package.json", "package-lock.json")
OLDEST = (20, 19)
"""Of Node: what ts-mls's cryptography needs."""


class NotInstalled(Exception):
    """The program cannot be run here; the message says what is missing."""


def installed() -> tuple[str, Path]:
    """Node and the program with its packages around it.

    Raises `NotInstalled` without Node or npm, with an older Node, outside of a virtual environment, or where npm
    cannot fetch the packages.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalled("Node with npm is not there, which ts-mls needs")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if tuple(int(part) for part in version.removeprefix("v").split(".")[:2]) < OLDEST:
        raise NotInstalled(f"Node is {version}, and ts-mls needs {'.'.join(map(str, OLDEST))}")
    if sys.prefix == sys.base_prefix:
        raise NotInstalled("ts-mls is installed into the virtual environment, and this Python is in none")
    folder = Path(sys.prefix) / "ts-mls" / _fingerprint()
    if not folder.exists():
        _install(npm, folder)
    return node, folder / FILES[0]


def _fingerprint() -> str:
    """Of everything that is installed, so that a change of it is installed anew."""
    return hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:16]


def _install(npm: str, folder: Path) -> None:
    """All at once or not at all: several processes may do it at the same time."""
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for name in FILES:
            shutil.copy(HERE / name, made)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            subprocess.run(command, cwd=made, check=True, capture_output=True, text=True, timeout=120)
        except subprocess.CalledProcessError as error:
            raise NotInstalled(f"npm cannot install ts-mls: {error.stderr.strip()[-300:]}") from error
        except subprocess.TimeoutExpired as error:
            raise NotInstalled("npm did not install ts-mls within two minutes") from error
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():
                raise
