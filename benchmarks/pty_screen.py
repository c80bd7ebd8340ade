"""A program on a pseudo-terminal, and the screen that it has drawn so far."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Sequence

import pyte

KEYS = {"enter": "\r", "tab": "\t", "esc": "\x1b", "space": " "}


class PtyScreen:
    """Start a program, type keys, and wait for text to appear."""

    def __init__(self, command: Sequence[str], columns: int = 120, rows: int = 36) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.began = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            os.execvp(command[0], list(command))
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def lines(self) -> list[str]:
        return list(self._screen.display)

    def shows(self, text: str) -> bool:
        return any(text in line for line in self._screen.display)

    def read(self, seconds: float) -> None:
        """Take in what comes within a time."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                self._stream.feed(os.read(self._fd, 65536))

    def wait_for(self, text: str, seconds: float) -> float | None:
        """Seconds until a text was on the screen; None where it did not come in time."""
        start = time.perf_counter()
        while not self.shows(text):
            if time.perf_counter() - start > seconds:
                return None
            if select.select([self._fd], [], [], 0.002)[0]:
                self._stream.feed(os.read(self._fd, 65536))
        return time.perf_counter() - start

    def press(self, key: str) -> None:
        os.write(self._fd, KEYS.get(key, key).encode())

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._fd)
