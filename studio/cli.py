"""The command line: `rs-studio WORKSPACE [COMMAND]` opens the studio or runs a command, and ends with its code."""

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NoReturn

from studio.display import shown_line
from studio.errors import StudioError, UsageError, unknown

INTERRUPTED, STOPPED = 130, 75
# What the system says of a path that was given wrongly, rather than of a disk or machine in trouble.
_WRONG_PATH = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


def entry() -> NoReturn:
    """The command `rs-studio`."""
    _open_standard_streams()
    sys.exit(main(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Where the caller closed one, lead it nowhere: the next file opened would take its number and be printed into."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    0 done, 1 failed, 2 wrong usage or settings, 75 stopped but resumable, 130 interrupted.
    """
    _quieten_libraries()
    as_json = "--json" in arguments
    words = [word for word in arguments if word != "--json"]
    if as_json or _names_a_command(words):
        return _headless(words, as_json)
    try:
        return _open_studio(_parsed(words).workspace)
    except _Told as told:
        print(told.text, end="")
        return 0
    except (StudioError, OSError) as caught:
        error = _of_system(caught) if isinstance(caught, OSError) else caught
        print(f"rs-studio: {shown_line(error)}", file=sys.stderr)
        return error.exit_code


class _Told(Exception):
    """What was asked for was the help or the version, and this is it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """The arguments by name.

    Raises:
        UsageError: they cannot be used.
        _Told: there is nothing to do but to tell.
    """
    from studio.arguments import make_parser  # the studio itself opens without

    parser, commands = make_parser()
    given = [word for word in words if not word.startswith("-")][1:2]
    if given and given[0] not in commands:
        raise unknown("command", given[0], commands)
    told = io.StringIO()
    try:
        with redirect_stdout(told):
            return parser.parse_args(words)
    except SystemExit:
        raise _Told(told.getvalue()) from None


def _names_a_command(words: Sequence[str]) -> bool:
    return len([word for word in words if not word.startswith("-")]) > 1


def _open_studio(root: Path) -> int:
    from screens.app import run  # the interface loads only when it opens

    return run(root)


def _headless(words: Sequence[str], as_json: bool) -> int:
    from studio.events import Finished
    from studio.launch import follows
    from studio.reporting import Reporter

    as_json = as_json and not follows()  # of several processes, one says what they did
    command = next(iter([word for word in words if not word.startswith("-")][1:]), "")
    with Reporter(command, as_json) as reporter, _ending_on_signals() as signalled:
        try:
            parsed = _parsed(words)
            if parsed.command is None:
                raise UsageError("--json needs a command.", "See rs-studio --help.")
            parsed.json = as_json
            return int(parsed.run(parsed, reporter))
        except _Told as told:
            return reporter.finish(Finished("completed", result={"help": told.text}), 0, told.text.rstrip())
        except StudioError as error:
            return reporter.fail(error)
        except KeyboardInterrupt:
            code = STOPPED if signalled() in (signal.SIGTERM, signal.SIGUSR1) else INTERRUPTED
            return reporter.finish(Finished("stopped"), code)
        except OSError as error:
            return reporter.fail(_of_system(error))
        except Exception as error:  # a fault of ours, which whoever mends it wants to see whole
            import traceback

            traceback.print_exc()
            return reporter.fail(StudioError(f"{type(error).__name__}: {error}", "This is a fault of rs-studio."))


def _of_system(error: OSError) -> StudioError:
    """An error of the operating system as a sentence."""
    what = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror or error}."
    return UsageError(what) if error.errno in _WRONG_PATH else StudioError(what)


@contextmanager
def _ending_on_signals() -> Iterator[Callable[[], int | None]]:
    """Until a job takes them over, the signals that stop a job end the command."""
    from studio.session import STOP_SIGNALS, stop_on_signals

    def end() -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield stop_on_signals(end)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quieten_libraries() -> None:
    """Nothing reports home or draws bars of its own; what is opened is opened without a hub in any case."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
