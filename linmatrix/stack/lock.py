"""One owner per data folder."""

import fcntl
import os
from pathlib import Path

from linmatrix.stack.errors import StackError


class FolderLock:
    """Held while a stack runs on a folder.

    The kernel lets go of it when the owner ends, however it ends, so there is no stale lock to clear away.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "stack.lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise StackError naming the process that has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode().strip() or "unknown"
            os.close(descriptor)
            raise StackError(
                f"{self._path.parent} is in use by another linmatrix (process {owner}): stop it, or set "
                "LINMATRIX_DATA_DIR to another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def held(self) -> bool:
        """Whether anyone has it now."""
        try:
            self.acquire()
        except StackError:
            return True
        self.release()
        return False

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
