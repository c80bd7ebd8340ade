"""How textual talks to the terminal: size from the right descriptor, and answers that are never typed as keys.

This is the one file that leans on textual's private parts.
"""

import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import Iterable
from typing import Any

from textual import _xterm_parser, events
from textual.drivers import linux_driver
from textual.keys import Keys
from textual.message import Message

# Primary device attributes (4 in the list: sixel), and the size of a cell in pixels.
QUESTIONS = "\x1b[16t\x1b[c"
_ATTRIBUTES = re.compile(r"\x1b\[\?([\d;]*)c")
_CELL = re.compile(r"\x1b\[6;(\d+);(\d+)t")
_BEGUN = re.compile(r"\x1b\[(\?[\d;]*|6;[\d;]*)\Z")
_SIXEL = "4"

# An answer of a well-equipped terminal is longer than the 32 characters after which textual gives up.
_xterm_parser._MAX_SEQUENCE_SEARCH_THRESHOLD = 128


class TerminalAnswered(Message):
    """The terminal said what it can do; None where this answer does not tell."""

    def __init__(self, sixel: bool | None = None, cell_px: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.sixel = sixel
        self.cell_px = cell_px


def understand(answer: str) -> TerminalAnswered | None:
    """What a terminal's answer says; None for text that is no answer to our questions."""
    if match := _ATTRIBUTES.fullmatch(answer):
        return TerminalAnswered(sixel=_SIXEL in match[1].split(";")[1:])
    if match := _CELL.fullmatch(answer):
        return TerminalAnswered(cell_px=(int(match[2]), int(match[1])))
    return None


class AnswerParser(_xterm_parser.XTermParser):
    """Takes answers out of what is typed, however late and in however many pieces they come."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._held = ""

    def feed(self, data: str) -> Iterable[Message]:
        if not data:
            return super().feed(data)
        return self._feed(data)

    def _feed(self, data: str) -> Iterable[Message]:
        data, self._held = self._held + data, ""
        position = 0
        for match in re.finditer(f"{_ATTRIBUTES.pattern}|{_CELL.pattern}", data):
            yield from self._typed(data[position : match.start()])
            if answer := understand(match.group()):
                yield answer
            position = match.end()
        rest = data[position:]
        if begun := _BEGUN.search(rest):
            rest, self._held = rest[: begun.start()], rest[begun.start() :]
        yield from self._typed(rest)

    def _typed(self, data: str) -> Iterable[Message]:
        return super().feed(data) if data else ()

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[events.Key]:
        # An answer that broke off after its first two characters is put together by textual itself.
        if understand(sequence) is not None:
            return [events.Key(Keys.Ignore, sequence)]
        return super()._sequence_to_key_events(sequence, alt)


setattr(linux_driver, "XTermParser", AnswerParser)  # noqa: B010, where the driver looks for its parser


class StudioDriver(linux_driver.LinuxDriver):
    """textual's driver on a terminal that is no longer descriptor 1."""

    def _get_terminal_size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._file.fileno() if self._file else 1)
        except (AttributeError, OSError, ValueError):
            return 80, 24
        return size.columns or 80, size.lines or 24

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self.write(QUESTIONS)
        self.flush()


def cell_size(descriptor: int | None = None) -> tuple[int, int] | None:
    """(width, height) of a cell in pixels, as the terminal device knows it."""
    file: Any = sys.__stderr__
    try:
        answer = fcntl.ioctl(descriptor if descriptor is not None else file.fileno(), termios.TIOCGWINSZ, bytes(8))
    except (OSError, ValueError, AttributeError):
        return None
    rows, columns, width, height = struct.unpack("HHHH", answer)
    if not (rows and columns and width and height):
        return None
    return width // columns, height // rows
