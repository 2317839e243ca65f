"""The data directory: made when missing, for its owner alone, and used by one system at a time."""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType

LOCK_NAME = "lock"
LOCK_WAIT_S = 2.0
"""The Redis of a launcher that was killed just now holds the lock until it has written everything."""
LOCK_POLL_S = 0.02


class DataDirError(OSError):
    """The directory can't be used; the text is one sentence."""


class DataDirTakenError(OSError):
    """Another system uses the directory; the text is one sentence."""


def is_in_use(path: Path) -> bool:
    """Whether a system runs on this directory now. Raises: OSError when it can't be read."""
    try:
        descriptor = os.open(path / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


class DataDir:
    """A directory, locked while this is open. Without a path it is a temporary one, removed at the end."""

    def __init__(self, path: Path | None = None) -> None:
        self._temporary = None if path is not None else tempfile.TemporaryDirectory(prefix="switchboard-")
        self.path = Path(self._temporary.name if self._temporary is not None else path or ".")
        self.lock_fd = -1

    def __enter__(self) -> "DataDir":
        """Raises: DataDirError, DataDirTakenError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.lock_fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise DataDirError(f"SWITCHBOARD_DATA_DIR: {self.path} can't be used: {exc.strerror}") from exc
        try:
            self._lock()
        except OSError:
            os.close(self.lock_fd)
            raise
        os.truncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.lock_fd)
        if self._temporary is not None:
            self._temporary.cleanup()

    def _lock(self) -> None:
        """Raises: DataDirError, DataDirTakenError."""
        give_up = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < give_up:
                    time.sleep(LOCK_POLL_S)
                    continue
                holder = os.pread(self.lock_fd, 20, 0).decode(errors="replace") or "unknown"
                raise DataDirTakenError(
                    f"another Switchboard (process {holder}) uses the data directory {self.path}:"
                    " stop it, or set SWITCHBOARD_DATA_DIR to another directory"
                ) from None
            except OSError as exc:
                raise DataDirError(f"SWITCHBOARD_DATA_DIR: {self.path} can't be locked: {exc.strerror}") from exc
            else:
                return
