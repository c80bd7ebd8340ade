"""Signals to the command line: the first asks for a stop, the second ends the process at once."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from studio.cli import main
from studio.runs import state_of

# `import` as a job that works until it is stopped, says so on the stream that libraries print to, and may be deaf.
SLOW = """
import sys
from studio import cli, jobs, requests
from studio.context import Done
from studio.events import Started

def slow(context):
    context.emit(Started("import", context.device))
    print("working", file=sys.stderr, flush=True)
    while not context.should_stop():
        context.control.wait(0.02)
    print("asked", file=sys.stderr, flush=True)
    while "deaf" in sys.argv[-1]:
        context.control.wait(10)
    return Done({"name": context.folder.path.name}, "stopped")

def long_look(settings):
    print("looking", file=sys.stderr, flush=True)
    while True:
        jobs.Control().wait(10)

jobs.KINDS["import"] = slow
if sys.argv[-1] == "looks":
    requests.scan = long_look
sys.exit(cli.main(sys.argv[1:]))
"""
Begin = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a slow import of a name."""
    processes: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SLOW, "--json", "ws", "import", "demo:10", "--as", name]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def heard(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """The exit code, and the last line of stdout."""
    out, _ = process.communicate(timeout=60)
    return process.returncode, json.loads(out.splitlines()[-1])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)], ids=lambda one: str(one)
)
def test_the_first_signal_asks_for_a_stop(number: signal.Signals, code: int, begin: Begin, tmp_path: Path) -> None:
    process = begin("slow")
    assert heard(process.stderr) == "working"
    process.send_signal(number)
    exit_code, result = ended(process)
    assert exit_code == code
    expected = {"type": "result", "command": "import", "outcome": "stopped", "exit": code, "name": "slow"}
    assert result == expected
    assert state_of(tmp_path / "ws" / "datasets" / "slow").status == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_second_signal_ends_at_once(number: signal.Signals, begin: Begin, tmp_path: Path) -> None:
    process = begin("deaf")
    assert heard(process.stderr) == "working"
    process.send_signal(signal.SIGTERM)
    assert heard(process.stderr) == "asked"
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert state_of(tmp_path / "ws" / "datasets" / "deaf").status == "interrupted"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)], ids=str)
def test_a_signal_before_the_work_ends_the_command(
    number: signal.Signals, code: int, begin: Begin, tmp_path: Path
) -> None:
    process = begin("looks")
    assert heard(process.stderr) == "looking"
    process.send_signal(number)
    exit_code, result = ended(process)
    assert (exit_code, result["outcome"], result["exit"]) == (code, "stopped", code)
    assert list(tmp_path.iterdir()) == []


def test_a_request_through_the_folder_stops_with_75(begin: Begin, tmp_path: Path) -> None:
    process = begin("slow")
    assert heard(process.stderr) == "working"
    (tmp_path / "ws" / "datasets" / "slow" / "control").write_text("stop\n")
    exit_code, result = ended(process)
    assert (exit_code, result["outcome"]) == (75, "stopped")


def test_a_killed_job_frees_its_name_and_a_racing_one_is_refused(
    begin: Begin, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["ws", "import", "demo:10", "--as", "slow", "--json"]
    process = begin("slow")
    assert heard(process.stderr) == "working"
    assert main(words) == 2
    assert "is being worked on by another process" in capfd.readouterr().out
    process.kill()
    process.wait()
    assert main(words) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["imported"] == 10


def test_of_racing_imports_of_one_name_one_works_and_the_others_are_refused(begin: Begin, tmp_path: Path) -> None:
    racers = [begin("slow") for _ in range(4)]
    told = {racer: heard(racer.stderr) for racer in racers}
    winner = next(racer for racer in racers if told[racer] == "working")
    losers = [racer for racer in racers if racer is not winner]
    assert [ended(racer)[0] for racer in losers] == [2, 2, 2]
    winner.send_signal(signal.SIGTERM)
    assert ended(winner)[0] == 75
