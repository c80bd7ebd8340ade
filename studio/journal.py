"""A job's journal: one JSON line for each event, appended by whoever holds its lock and read by anyone."""

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from studio.errors import UsageError
from studio.events import Event, from_record, to_record
from studio.files import close_torn_line, json_line


class Journal:
    """The writing end. Holding it is holding the job: the kernel frees the lock when the process dies.

    Raises:
        UsageError: another process or thread works on this job.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if not _lock(self._descriptor):
            os.close(self._descriptor)
            raise being_worked_on(path.parent)
        # One write per event, so a killed run leaves at most half a line, closed off here.
        close_torn_line(self._descriptor)

    def write(self, event: Event) -> None:
        record = to_record(event)
        record["time"] = round(time.time(), 3)
        line = json_line(record)
        if os.write(self._descriptor, line) < len(line):
            close_torn_line(self._descriptor)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class JournalReader:
    """The reading end: gives the events that came since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[tuple[float, Event]]:
        """New (time in seconds since 1970, event) pairs, oldest first; torn and unknown lines are skipped."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [pair for line in lines if (pair := _parse(line))]


def being_worked_on(folder: Path) -> UsageError:
    """What to say to whoever wants to work where someone does."""
    is_run = folder.parent.name == "runs"
    return UsageError(
        f"{folder.name} is being worked on by another process.",
        f"Steer it with: rs-studio WS control {folder.name} stop" if is_run else "Wait until it has ended.",
    )


def is_locked(path: Path) -> bool:
    """Whether someone works on this job now."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool:
    # A reader that asks `is_locked` holds the file for an instant, so one refusal proves nothing.
    for attempt in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.005 * attempt)
    return False


def _parse(line: bytes) -> tuple[float, Event] | None:
    try:
        record: Any = json.loads(line)
        event = from_record(record) if isinstance(record, dict) else None
        return (float(record.get("time", 0.0)), event) if event is not None else None
    except (ValueError, TypeError, RecursionError):
        return None
