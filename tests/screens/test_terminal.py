"""The studio on a real pseudo-terminal: what reaches it, and what happens when it goes away."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from textual import events

from screens.driver import AnswerParser, TerminalAnswered, understand
from screens.terminal import ask_for_colour, check_terminal
from studio import cli
from studio.errors import UsageError
from studio.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
OPEN = """
import sys
from studio.cli import main
sys.exit(main(sys.argv[1:]))
"""
LEAKING = """
import atexit, os
atexit.register(lambda: os.write(2, b"leaked 25 functions"))
"""
FAULTY = """
from screens import shell
def fail(self): raise RuntimeError("a fault of ours")
shell.StudioApp.on_mount = fail
"""
# A kind of job that takes its time and says when it has ended, as training would.
SLOW = """
import os, sys, threading, time
from pathlib import Path
from studio import jobs
from tests import fakes
from screens import shell
training = fakes.FakeTraining(steps=30, hold_at=20)
jobs.KINDS["train"] = training
root = Path(sys.argv[1])
def mounted(self):
    before(self)
    self.call_after_refresh(lambda: self.start(fakes.fake_run(self.workspace)))
before = shell.StudioApp.on_mount
shell.StudioApp.on_mount = mounted
def let_go():
    while not (root / "let-go").exists(): time.sleep(0.01)
    os.write(1, b"printed by a library"); os.write(2, b"complained by a library")
    training.let_go.set()
threading.Thread(target=let_go, daemon=True).start()
from screens.app import run
sys.exit(run(root))
"""


class Terminal:
    """A studio on a pseudo-terminal, and the screen that it has drawn."""

    def __init__(self, code: str, *arguments: str, **environment: str) -> None:
        self.screen = pyte.Screen(100, 30)
        self.stream = pyte.ByteStream(self.screen)
        self.bytes = b""
        self.end, inner = pty.openpty()
        os.set_blocking(self.end, False)
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        os.close(inner)

    def read(self) -> None:
        if select.select([self.end], [], [], 0.05)[0]:
            try:
                data = os.read(self.end, 65536)
            except OSError:
                return
            self.bytes += data
            self.stream.feed(data)

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.screen.display)

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda: self.shows(text))

    def wait_until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "\n".join(self.screen.display)
            self.read()

    def wait_for_end(self, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it did not end"
            self.read()
        self.read()
        return int(self.process.returncode)

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())


Open = Callable[..., Terminal]


@pytest.fixture
def open_terminal() -> Iterator[Open]:
    opened: list[Terminal] = []

    def begin(code: str, *arguments: str, **environment: str) -> Terminal:
        opened.append(Terminal(code, *arguments, **environment))
        return opened[-1]

    yield begin
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()


def test_a_terminal_that_only_prints_is_refused_and_nothing_is_made(tmp_path: Path, open_terminal: Open) -> None:
    terminal = open_terminal(OPEN, str(tmp_path / "new"), TERM="dumb")
    assert terminal.wait_for_end() == 2
    assert b"TERM=dumb" in terminal.bytes
    assert not (tmp_path / "new").exists()


def test_what_is_no_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    with pytest.raises(UsageError, match="needs a terminal"):
        check_terminal()


def test_the_studio_opens_on_a_terminal_and_gives_it_back(workspace: Workspace, open_terminal: Open) -> None:
    terminal = open_terminal(OPEN, str(workspace.root))
    terminal.wait_for("1 Home")
    terminal.wait_for("Nothing here yet.")
    terminal.type("q")
    assert terminal.wait_for_end() == 0
    assert b"\x1b[?1049l" in terminal.bytes


def test_what_is_said_while_the_interpreter_ends_goes_to_the_log(workspace: Workspace, open_terminal: Open) -> None:
    terminal = open_terminal(LEAKING + OPEN, str(workspace.root))
    terminal.wait_for("Nothing here yet.")
    terminal.type("q")
    assert terminal.wait_for_end() == 0
    assert b"leaked 25 functions" not in terminal.bytes
    assert b"leaked 25 functions" in (workspace.root / "studio.log").read_bytes()


def test_a_fault_of_the_studio_is_told_when_it_ends_and_kept_in_the_log(
    workspace: Workspace, open_terminal: Open
) -> None:
    terminal = open_terminal(FAULTY + OPEN, str(workspace.root))
    assert terminal.wait_for_end() == 1
    assert b"studio.log ends with" in terminal.bytes
    assert b"a fault of ours" in (workspace.root / "studio.log").read_bytes()


def test_the_screens_too_let_no_library_report_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
    monkeypatch.setattr(cli, "_open_studio", lambda root: 0)
    assert cli.main([str(tmp_path)]) == 0
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_late_answers_of_the_terminal_are_never_typed(workspace: Workspace, open_terminal: Open) -> None:
    terminal = open_terminal(OPEN, str(workspace.root))
    terminal.wait_for("Nothing here yet.")
    terminal.type("4")
    terminal.wait_for("e Edit")
    terminal.type("e")
    terminal.wait_until(lambda: not terminal.shows("e Edit"))
    terminal.type("one ")
    terminal.wait_for("one")
    terminal.type("\x1b[?63;1;2;4;6;9;15;16;22;28c\x1b[6;18;9t")
    terminal.type("two")
    terminal.wait_for("one two")
    assert not terminal.shows("28c")
    terminal.type("\x11")
    assert terminal.wait_for_end() == 0


def test_losing_the_terminal_ends_the_interface_and_not_the_work(workspace: Workspace, open_terminal: Open) -> None:
    terminal = open_terminal(SLOW, str(workspace.root))
    terminal.wait_for("19/30")
    os.close(terminal.end)
    terminal.process.send_signal(signal.SIGHUP)
    (workspace.root / "let-go").touch()
    assert terminal.process.wait(60) == 0
    journal = (workspace.runs / "0001-fake" / "events.jsonl").read_text()
    assert '"outcome":"completed"' in journal


def test_what_libraries_print_goes_to_the_log_not_the_screen(workspace: Workspace, open_terminal: Open) -> None:
    terminal = open_terminal(SLOW, str(workspace.root))
    terminal.wait_for("19/30")
    (workspace.root / "let-go").touch()
    terminal.wait_for("is done.")
    assert b"printed by a library" not in terminal.bytes
    assert b"complained by a library" not in terminal.bytes
    log = (workspace.root / "studio.log").read_bytes()
    assert b"printed by a library" in log
    assert b"complained by a library" in log
    terminal.type("q")
    assert terminal.wait_for_end() == 0


@pytest.mark.parametrize(
    ("answer", "sixel"), [("\x1b[?63;1;2;4;6;9;15;16;22;28c", True), ("\x1b[?1;2c", False), ("\x1b[?62;22c", False)]
)
def test_an_answer_tells_whether_the_terminal_draws_sixels(answer: str, sixel: bool) -> None:
    understood = understand(answer)
    assert understood is not None
    assert understood.sixel is sixel


@pytest.mark.parametrize("cut", range(1, 29))
def test_an_answer_in_two_pieces_is_put_together(cut: int) -> None:
    answer = "\x1b[?63;1;2;4;6;9;15;16;22;28c"
    parser = AnswerParser()
    messages = [*parser.feed("a" + answer[:cut]), *parser.feed(answer[cut:] + "b")]
    typed = [one.character for one in messages if isinstance(one, events.Key)]
    assert typed == ["a", "b"]
    if cut > 2:
        assert any(isinstance(one, TerminalAnswered) and one.sixel for one in messages)


def test_keys_pass_through_as_they_are() -> None:
    keys = [one.key for one in AnswerParser().feed("q\x1b[A\x1b[6~é") if isinstance(one, events.Key)]
    assert keys == ["q", "up", "pagedown", "é"]


@pytest.mark.parametrize(
    ("term", "true_colour"), [("xterm-256color", True), ("foot", True), ("linux", False), ("vt220", False)]
)
def test_true_colour_is_asked_for_where_there_is_some(
    monkeypatch: pytest.MonkeyPatch, term: str, true_colour: bool
) -> None:
    for name in ("COLORTERM", "TEXTUAL_COLOR_SYSTEM", "NO_COLOR", "TMUX", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", term)
    ask_for_colour()
    assert (os.environ.get("TEXTUAL_COLOR_SYSTEM") == "truecolor") is true_colour
    for name in ("COLORTERM", "TEXTUAL_COLOR_SYSTEM"):
        os.environ.pop(name, None)
