import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from studio.events import (
    Finished,
    ImageSaved,
    MetricMeasured,
    Phase,
    Refused,
    Started,
    StepDone,
    Validated,
    Warned,
)
from studio.reporting import Reporter
from tests.hostile import TERMINAL
from tests.studio.command_line import Answer

STORY = (
    Started("train", "cpu", 0, 3),
    Phase("Loading PyTorch"),
    Phase("Encoding pictures", 1, 2),
    StepDone(1, 0.5, 1e-4, 1.0, 4, 0.1),
    Validated(1, 0.7, best=True),
    StepDone(2, float("nan"), 1e-4, float("inf"), 4, 0.0),
    ImageSaved(0, "tiles/000001.png", 42, "0" * 64, "a river"),
    Refused("a.jpg", "is no picture"),
    MetricMeasured("kid", float("nan"), 50, 60, "starter-encoder", "1" * 64, "2" * 64, floor=0.1),
    Warned("Few pictures.", "Add some."),
)
TELL = """
import sys
from tests.studio.test_reporting import STORY
from studio.events import Finished, Phase
from studio.reporting import Reporter
with Reporter("train", "--json" in sys.argv) as reporter:
    for turn in range(2):
        for event in STORY:
            reporter.event(event)
        if "--wait" in sys.argv:
            sys.stdin.readline()
    sys.exit(reporter.finish(Finished("completed", result={"step": 3}), 0, "All is well."))
"""
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Iterator[dict[str, Answer]]:
    """The story, in words and in JSON."""
    answers = {}
    for form in ("words", "json"):
        with Reporter("train", form == "json") as reporter:
            for event in STORY:
                reporter.event(event)
            code = reporter.finish(Finished("completed", result={"step": 3, "loss": float("inf")}), 0, "All is well.")
        both = capfd.readouterr()
        answers[form] = Answer(code, both.out, both.err)
    return answers


def in_a_terminal(*words: str) -> tuple[int, str]:
    """The exit code of a telling in a terminal, and all that the terminal was sent."""
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TELL, *words], stdin=child, stdout=child, stderr=child, cwd=REPOSITORY
    )
    os.close(child)
    sent = b""
    try:
        while data := os.read(parent, 65536):
            sent += data
    except OSError:  # the other end is closed
        pass
    os.close(parent)
    return process.wait(60), sent.decode()


def test_json_lines_are_all_that_is_told(told: dict[str, Answer]) -> None:
    answer = told["json"]
    assert answer.err == ""
    assert answer.result == {
        "type": "result", "command": "train", "outcome": "completed", "exit": 0, "step": 3, "loss": None
    }  # fmt: skip
    kinds = [record["type"] for record in answer.records]
    assert {"progress", "tile", "refused", "metric", "warning", "result"} == set(kinds)


def test_each_kind_of_line_has_its_fields(told: dict[str, Answer]) -> None:
    by_kind = {record["type"]: record for record in told["json"].records}
    assert {"path", "seed", "sha256"} <= set(by_kind["tile"])
    assert {"file", "reason"} <= set(by_kind["refused"])
    assert {"name", "value", "n_real", "n_generated", "network", "weights_sha256", "split_sha256", "floor"} <= set(
        by_kind["metric"]
    )
    assert by_kind["metric"]["value"] is None


def test_people_get_results_on_stdout_and_the_story_on_stderr(told: dict[str, Answer]) -> None:
    answer = told["words"]
    assert answer.out.splitlines()[0].startswith("tiles/000001.png  seed 42")
    assert answer.out.splitlines()[1].startswith("kid  nan  floor 0.1  N 50/60")
    assert answer.out.splitlines()[2] == "All is well."
    for line in ("Step 1: validation loss 0.7000 (best)", "Refused a.jpg: is no picture", "Note: Few pictures."):
        assert line in answer.err


def test_a_failure_is_one_line_whatever_it_says(capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter("train", False) as reporter:
        assert reporter.finish(Finished("failed", "\n".join(TERMINAL), "Look."), 1) == 1
    told = capfd.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "\x1b" not in told.err


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"run": "0001-x", "step": 7}, "Stopped at step 7. Go on with: rs-studio WS resume 0001-x"),
        ({"batch": "river"}, "with --as river"),
        ({"name": "set"}, "The same command goes on"),
        ({}, "Stopped."),
    ],
)
def test_a_stop_says_how_to_go_on(result: dict[str, str], told: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter("train", False) as reporter:
        reporter.finish(Finished("stopped", result=result), 75)
    assert told in capfd.readouterr().err


def test_of_very_many_refusals_people_see_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter("import", False) as reporter:
        for number in range(100):
            reporter.event(Refused(f"{number}.jpg", "is no picture"))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 21
    assert "--json" in lines[-1]


def test_progress_is_told_a_few_times_a_second_and_at_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter("import", True) as reporter:
        for number in range(1, 1001):
            reporter.event(Phase("Importing", number, 1000))
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) < 50
    assert '"done": 1000' in lines[-1]


def test_tables_are_not_cut_where_no_terminal_is(capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter("runs", False) as reporter:
        reporter.table(["run", "data"], [["x" * 200, "[/bold]\x1b[31m"]])
    assert capfd.readouterr().out.splitlines()[1].split() == ["x" * 200, "[/bold]␛[31m"]


def test_a_bar_is_drawn_in_a_terminal_and_is_gone_in_the_end() -> None:
    code, sent = in_a_terminal()
    assert code == 0
    assert "Traceback" not in sent
    screen = pyte.Screen(80, 40)
    pyte.Stream(screen).feed(sent)
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert lines[-1] == "All is well."
    assert sum(line.startswith("tiles/000001.png") for line in lines) == 2
    assert not [line for line in lines if "━" in line]
    assert "2/3" in sent


def test_no_bar_is_drawn_where_json_is_asked_for() -> None:
    code, sent = in_a_terminal("--json")
    assert code == 0
    assert "\x1b" not in sent


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["words", "json"])
def test_work_goes_on_when_nobody_reads_any_more(words: list[str]) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", TELL, "--wait", *words]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"\n\n")
        process.stdin.close()
        assert process.wait(60) == 0


def test_results_on_a_full_disk_are_a_failure() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", TELL], stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, check=False
        )
    assert ran.returncode == 1
    assert "The results cannot be written: No space left on device." in ran.stderr
    assert "Traceback" not in ran.stderr
