"""The file behind a study's storage. Whatever dies in mid-write, the next line is appended to whole lines."""

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

CHUNK = 1 << 16


class StudyFile(BaseJournalBackend):
    """Optuna's journal file with appends that are whole or absent.

    Optuna's own backend breaks in two ways when a writer is killed: half a line swallows the next one and then makes
    every reader raise, and its lock, a file, outlives its holder by 30 seconds. Here the kernel's lock on the journal
    itself goes with the process, and each writer first cuts the file back to its last whole line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._reader = JournalFileBackend(str(self._path))
        self._blocks = 0  # of `at_once` that are open, in all threads
        self._lock = threading.Lock()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is appended within reaches the disk at the end of the outermost block: it is waited for once.

        Meanwhile it is in the file, so that the death of this process loses nothing; that of the machine might.
        """
        with self._lock:
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                is_last = not self._blocks
            if is_last:
                with self._path.open("rb") as file:
                    os.fsync(file.fileno())

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The operations from that one on; half a line at the end is none."""
        return self._reader.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append all operations, or none of them (a full disk raises OSError, with its path)."""
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self._path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing the file unlocks it
            end = mend(file)
            try:
                _write(file, lines)
                if not self._blocks:
                    os.fsync(file.fileno())
            except BaseException as error:
                file.truncate(end)
                if isinstance(error, OSError):
                    error.filename = str(self._path)
                raise


def mend(file: BinaryIO) -> int:
    """Cut the file back to its last whole line, and return its size. The caller holds the lock."""
    size = file.seek(0, os.SEEK_END)
    end = _end_of_last_line(file, size)
    if end < size:
        file.truncate(end)
        file.seek(end)
    return end


def _end_of_last_line(file: BinaryIO, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - CHUNK) if end < size else end - 1  # nearly always the last byte tells
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            file.seek(size)
            return start + newline + 1
        end = start
    return 0


def _write(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
