"""Requests to a job, from this process or from another: pause, resume, stop, save, preview."""

import os
import threading
from pathlib import Path
from typing import Literal, get_args

from studio import files

Request = Literal["pause", "resume", "stop", "save", "preview"]
REQUESTS: tuple[str, ...] = get_args(Request)


class Control:
    """What a job is asked to do; it looks between steps and inside long phases, and obeys when it can.

    Requests come by a method call here, or by a word in the job folder's `control` file elsewhere.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._paused = False
        self._stop = False
        self._once: set[str] = set()
        self._unsent: list[str] = []
        self._changed = threading.Event()

    def ask(self, request: str) -> None:
        with self._lock:
            self._unsent.append(request)
            if request == "pause":
                self._paused = True
            elif request == "resume":
                self._paused = False
            elif request == "stop":
                self._stop = True
            elif request in ("save", "preview"):
                self._once.add(request)
        self._changed.set()

    @property
    def stopping(self) -> bool:
        self._read_file()
        return self._stop

    @property
    def paused(self) -> bool:
        self._read_file()
        return self._paused and not self._stop

    def take(self, request: Literal["save", "preview"]) -> bool:
        """Whether this was asked for since the last look; asking is used up."""
        self._read_file()
        with self._lock:
            asked = request in self._once
            self._once.discard(request)
        return asked

    def hand_on(self) -> list[str]:
        """What was asked here since the last look, for a process that works in this one's place and reads the file."""
        with self._lock:
            words, self._unsent = self._unsent, []
        return words

    def wait(self, seconds: float = 0.2) -> None:
        """Rest while paused, until something is asked for or the time is over."""
        self._changed.wait(seconds)
        self._changed.clear()

    def _read_file(self) -> None:
        if self._path is None:
            return
        # Taken away before it is read, so that a request that comes meanwhile is not deleted unread.
        taken = self._path.with_name(f"{files.TEMPORARY}{os.getpid()}-{self._path.name}-taken")
        try:
            self._path.rename(taken)
            words = taken.read_text("utf-8", "replace").split()
            taken.unlink()
        except OSError:
            return
        for word in words:
            if word in REQUESTS:
                self.ask(word)


def ask_elsewhere(folder: Path, request: Request) -> None:
    """Leave a request for the process that works in a job's folder."""
    files.write_text(folder / "control", request + "\n")
