"""Opens the studio on a workspace: takes the terminal, runs the screens, and stays until the work is done."""

import os
import signal
import sys
from pathlib import Path

from screens.terminal import Terminal, check_terminal, on_hang_up, take_terminal
from studio.session import Session, stop_on_signals
from studio.workspace import make_workspace

LOG = "studio.log"


def run(workspace_path: Path) -> int:
    """Show the studio until it is left; the exit code is 0, or 75 where a signal stopped work that can be resumed.

    Raises:
        UsageError: no workspace can be here, or the terminal cannot show screens; nothing was changed.
        SettingsError: every fault of studio.toml.
    """
    check_terminal()
    workspace = make_workspace(workspace_path)
    session = Session(workspace)
    terminal = take_terminal(workspace.root / LOG)
    try:
        code = _show(session, terminal)
    finally:
        session.close()
        terminal.give_back()
    _hush(terminal)
    return code


def _hush(terminal: Terminal) -> None:
    """From here on only the interpreter ends, at which some libraries tell of what they leave: that is for the log."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(terminal.log, 2)


def _show(session: Session, terminal: Terminal) -> int:
    # Only now, as textual looks at the environment and at sys.__stderr__ when it is imported.
    from screens.driver import StudioDriver
    from screens.shell import StudioApp

    app = StudioApp(session, driver_class=StudioDriver)
    lost: list[bool] = []

    def hang_up() -> None:
        lost.append(True)
        terminal.let_go()
        app.leave_soon("keep")

    def stop() -> None:
        session.stop_all()
        app.leave_soon("stop")

    on_hang_up(hang_up)
    signalled = stop_on_signals(stop)
    app.run()
    # From here on a hang-up must not end the work.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if app.leaving == "stop":
        session.stop_all()
    if not lost:
        terminal.give_back()
        if app.return_code:  # textual has told the log
            log = session.workspace.root / LOG
            print(f"rs-studio: the screens failed by a fault of their own, which {log} ends with.", file=sys.stderr)
        _say_what_goes_on(session, app.leaving or "")
    app.finish_series()
    session.wait()
    return 75 if signalled() is not None else app.return_code or 0


def _say_what_goes_on(session: Session, leaving: str) -> None:
    if not session.waiting:
        return
    if leaving == "stop":
        print("Saving what runs, then stopping…", file=sys.stderr)
    else:
        print(
            "The work goes on. Close this terminal, or press ctrl+z and type bg, to leave it alone; "
            "ctrl+c saves and stops.",
            file=sys.stderr,
        )
