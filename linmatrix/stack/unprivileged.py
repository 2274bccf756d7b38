"""Running PostgreSQL when we are root: it refuses to, so its commands run as `nobody`.

Only its own folder is given to `nobody`. A project cloned below a folder closed to others (such as root's home) cannot
be entered by `nobody` at all; making every parent folder world-readable, or keeping the data elsewhere, would both
surprise its owner. So there, and only there, the commands keep one of root's capabilities: to read and enter folders.
"""

import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from linmatrix.stack.errors import StackError

ACCOUNT = "nobody"
# By preference: the second can also write anywhere, but is what Docker leaves to root by default. Numbers as in
# linux/capability.h.
_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}


def needed() -> bool:
    """Whether we are root."""
    return os.geteuid() == 0


def give(folder: Path) -> None:
    """Make `nobody` the owner of a folder of ours, alone."""
    account = pwd.getpwnam(ACCOUNT)
    os.chown(folder, account.pw_uid, account.pw_gid)
    folder.chmod(0o700)


def command(argv: Sequence[str], *, enters: Iterable[Path], death_signal: str) -> list[str]:
    """The command line that runs `argv` as `nobody`, able to enter the given folders, ended when its parent ends.

    Changing the user clears the parent-death signal, so it is set here again.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "PostgreSQL does not run as root, and there is no setpriv (of util-linux) to run it as nobody. "
            "Run linmatrix as another user, or set DATABASE_URL to a PostgreSQL of yours."
        )
    account = pwd.getpwnam(ACCOUNT)
    options = [
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        f"--pdeathsig={death_signal}",
    ]
    if any(closed_to_others(folder) for folder in enters):
        capability = _available_capability()
        options += [
            # access(2), with which PostgreSQL looks for its own files, ignores capabilities without this.
            "--securebits=+no_setuid_fixup",
            f"--inh-caps=+{capability}",
            f"--ambient-caps=+{capability}",
            f"--bounding-set=-all,+{capability}",
        ]
    return [setpriv, *options, "--", *argv]


def closed_to_others(folder: Path) -> bool:
    """Whether some parent of the folder may be entered by its owner or group only."""
    return any(not parent.stat().st_mode & stat.S_IXOTH for parent in folder.resolve().parents)


def _available_capability() -> str:
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")), 16)
    for name, number in _CAPABILITIES.items():
        if bounding >> number & 1:
            return name
    raise StackError(
        f"PostgreSQL runs as {ACCOUNT}, which may not enter this folder. Set LINMATRIX_DATA_DIR and place the project "
        "where others may enter, or run linmatrix as another user."
    )
