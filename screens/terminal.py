"""What happens between the shell and the first frame: the terminal is checked, kept to ourselves, and given back."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

from studio.errors import UsageError

# Seconds; Python's default of 0.005 lets a computing thread keep the interface waiting.
SWITCH_INTERVAL = 0.0005
_TRUE_COLOUR = ("xterm", "foot", "mlterm", "tmux", "alacritty", "kitty", "wezterm", "contour", "ghostty", "vscode")


class TerminalFile(io.TextIOWrapper):
    """The way to the screen; what is written after the terminal went away is lost without a word."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


@dataclass
class Terminal:
    """The terminal that the studio draws on, while descriptors 1 and 2 lead to the log."""

    descriptor: int
    saved: tuple[int, int]
    log: int

    def let_go(self) -> None:
        """After a hang-up: nothing reads from or writes to the dead terminal any more."""
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, self.descriptor, *self.saved):
            os.dup2(null, descriptor)
        os.close(null)

    def give_back(self) -> None:
        """Descriptors 1 and 2 lead to where they led before."""
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, saved in zip((1, 2), self.saved, strict=True):
            os.dup2(saved, descriptor)


def check_terminal() -> None:
    """Raise where no studio can be drawn.

    Raises:
        UsageError: no terminal, or one that only prints.
    """
    name = os.environ.get("TERM", "")
    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError(
            "The studio needs a terminal for its screens, and this is not one.",
            "Use a command instead, such as: rs-studio WS runs",
        )
    if name in ("", "dumb"):
        raise UsageError(
            f"This terminal (TERM={name}) can only print lines, so the studio's screens cannot be drawn.",
            "Use another terminal, set TERM to what it is, or use a command such as: rs-studio WS runs",
        )


def take_terminal(log_path: Path) -> Terminal:
    """Keep the screen to ourselves: whatever C code or children print goes to the log.

    Call it before textual is imported.

    Raises:
        UsageError: as `check_terminal`.
    """
    check_terminal()
    ask_for_colour()
    if os.environ.get("SSH_CONNECTION"):
        os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    sys.setswitchinterval(SWITCH_INTERVAL)
    # Started later, inside the app, it would be handed textual's stderr, which has no descriptor, and die.
    resource_tracker.ensure_running()
    descriptor = os.dup(1)
    saved = (os.dup(1), os.dup(2))
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    # textual draws on sys.__stderr__.
    sys.__stderr__ = TerminalFile(  # type: ignore[misc]
        os.fdopen(descriptor, "wb", closefd=False), encoding="utf-8", errors="replace", write_through=True
    )
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    return Terminal(descriptor, saved, log)


def ask_for_colour() -> None:
    """Ask for true colour where the terminal has it; neither ssh nor xterm says so by itself."""
    name = os.environ.get("TERM", "")
    in_tmux = "TMUX" in os.environ and name.startswith("screen")
    apple = os.environ.get("TERM_PROGRAM") == "Apple_Terminal"
    if "NO_COLOR" not in os.environ and not apple and (in_tmux or name.startswith(_TRUE_COLOUR)):
        os.environ.setdefault("COLORTERM", "truecolor")
        os.environ.setdefault("TEXTUAL_COLOR_SYSTEM", "truecolor")


def on_hang_up(act: Callable[[], None]) -> None:
    """Call `act` when the line is lost. Only the main thread may call this."""

    def handle(number: int, frame: FrameType | None) -> None:
        act()

    signal.signal(signal.SIGHUP, handle)
