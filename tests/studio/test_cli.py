import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from studio import jobs, requests
from studio.arguments import make_parser
from studio.context import Context
from studio.control import Control
from studio.errors import StudioError, UsageError
from studio.events import Started
from studio.jobs import Done, execute
from studio.journal import Journal
from studio.settings import ImportSettings
from studio.workspace import Workspace, make_workspace
from tests.fakes import FakeTraining
from tests.studio.command_line import Say, speaker
from tests.studio.datasets.imports import fill, metadata, picture
from tests.studio.listing import listing

COMMANDS = [
    "init",
    "demo",
    "import",
    "train",
    "resume",
    "generate",
    "grid",
    "model",
    "reproduce",
    "evaluate",
    "downstream",
    "suggest",
    "export",
    "runs",
    "checkpoints",
    "probe",
    "sweep",
    "sweeps",
    "watch",
    "control",
    "check",
    "doctor",
]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    return speaker(capfd)


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    """A workspace with a data set."""
    workspace = make_workspace(tmp_path / "ws")
    execute(requests.import_job(workspace, ImportSettings(source="demo:14", name="demo", hold_out=4)), Control())
    return workspace.root


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    """Training that only tells, with a result like the real one's."""
    fake = FakeTraining(steps=3)

    def train(context: Context) -> Done:
        return Done({"run": context.folder.path.name, "steps": fake.steps, **fake(context).result})

    monkeypatch.setitem(jobs.KINDS, "train", train)
    return fake


# Help


def test_help_and_version_are_on_stdout_and_end_well(say: Say, tmp_path: Path) -> None:
    answers = [say("--help"), say("--version"), *(say(tmp_path / "none", command, "--help") for command in COMMANDS)]
    for answer in answers:
        assert answer.code == 0
        assert answer.out.startswith(("usage: rs-studio", "rs-studio "))
        assert answer.err == ""
    assert list(tmp_path.iterdir()) == []
    for command in COMMANDS:
        assert command in answers[0].out


def test_help_is_one_json_line_where_json_is_asked_for(say: Say, tmp_path: Path) -> None:
    answer = say(tmp_path, "train", "--json", "--help")
    assert answer.result["outcome"] == "completed"
    assert "--recipe" in answer.result["help"]


def test_only_what_works_is_there(say: Say, tmp_path: Path) -> None:
    answer = say(tmp_path, "corpus", "--json")
    assert answer.code == 2
    assert "There is no command named corpus" in answer.error


@pytest.mark.parametrize(
    "words",
    [
        [], ["WS", "train"], ["WS", "import", "x"], ["WS", "tran"], ["WS", "runs", "--bogus"], ["WS", "runs", "extra"],
        ["WS", "control", "1", "explode"], ["WS", "export", "x", "--to", "floppy", "y"], ["WS", "init", "--js"],
        ["WS", "generate", "--prompt", "a", "--prompts", "b"], ["WS", "generate"], ["WS", "suggest", "-n", "many"],
        ["WS", "import", "x", "--as", "y", "--seed", "1.5"], ["--", "WS", "train"], ["WS", ""],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_words_end_with_2_and_one_sentence(
    words: list[str], say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, as_json = say(*words), say("--json", *words)
    assert (plain.code, as_json.code) == (2, 2)
    assert plain.out == ""
    assert len(plain.err.splitlines()) == 1
    assert as_json.error
    assert as_json.err == ""
    assert list(tmp_path.iterdir()) == []


def test_json_may_stand_anywhere(say: Say, ws: Path) -> None:
    answers = [say("--json", ws, "runs"), say(ws, "--json", "runs"), say(ws, "runs", "--json")]
    assert len({answer.out for answer in answers}) == 1
    assert answers[0].result == {"type": "result", "command": "runs", "outcome": "completed", "exit": 0, "runs": 0}


def test_json_needs_a_command(say: Say, tmp_path: Path) -> None:
    answer = say("--json", tmp_path / "ws")
    assert answer.code == 2
    assert "needs a command" in answer.error


# Every command once


def test_init_makes_a_workspace_once(say: Say, tmp_path: Path) -> None:
    assert say(tmp_path / "deep" / "ws", "init", "--json").result["workspace"] == str(tmp_path / "deep" / "ws")
    before = listing(tmp_path)
    assert say(tmp_path / "deep" / "ws", "init").code == 0
    assert listing(tmp_path) == before


def test_an_import_tells_what_it_refused_and_adds_up(say: Say, tmp_path: Path) -> None:
    good = {f"train/{name}/{n}.png": picture(n) for name in ("river", "town") for n in range(3)}
    bad = {"train/river/text.jpg": b"hello", "train/town/cut.jpg": picture(9, 96, "JPEG")[:-300]}
    source = fill(tmp_path / "source", good | bad)
    answer = say(tmp_path / "ws", "import", source, "--as", "mixed", "--json")
    assert answer.code == 0
    refused = [record for record in answer.records if record["type"] == "refused"]
    assert {Path(record["file"]).name for record in refused} == {"text.jpg", "cut.jpg"}
    assert all(record["reason"] for record in refused)
    result = answer.result
    assert {key: result[key] for key in ("name", "given", "imported", "refused")} == {
        "name": "mixed", "given": 8, "imported": 6, "refused": 2
    }  # fmt: skip
    assert {record["type"] for record in answer.records} <= {"progress", "refused", "warning", "result"}


def test_a_row_without_a_picture_is_refused_among_good_ones(say: Say, tmp_path: Path) -> None:
    rows = [{"file_name": f"{name}.png", "text": "a river"} for name in ("a", "b", "gone")] + [{"text": "no file"}]
    contents = {"metadata.jsonl": metadata(rows), "a.png": picture(1), "b.png": picture(2)}
    answer = say(tmp_path / "ws", "import", fill(tmp_path / "source", contents), "--as", "rows", "--json")
    assert answer.code == 0
    assert answer.result["imported"] == 2
    assert answer.result["given"] == answer.result["imported"] + answer.result["refused"]
    assert any("gone.png" in record["file"] for record in answer.records if record["type"] == "refused")


def test_people_are_told_results_on_stdout_and_the_story_on_stderr(say: Say, tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"a.png": picture(1), "evil\x1b[31m.png": b"no"})
    answer = say(tmp_path / "ws", "import", source, "--as", "mine", "--caption", "a river")
    assert answer.out == "1 of 2 pictures imported as mine.\n"
    assert "Refused evil␛[31m.png" in answer.err
    assert "\x1b" not in answer.err


def test_training_can_be_listed_watched_stopped_and_resumed(say: Say, ws: Path, training: FakeTraining) -> None:
    training.fails_at = 2
    failed = say(ws, "train", "--recipe", "lora", "--data", "demo", "--name", "mine", "--json")
    assert (failed.code, failed.result["outcome"]) == (1, "failed")
    assert failed.error == "cpu ran out of memory. Halve the batch."
    training.fails_at = 0
    assert say(ws, "resume", "1", "--json").result["outcome"] == "completed"

    listed = say(ws, "runs", "--json")
    assert [record["run"] for record in listed.records[:-1]] == ["0001-mine"]
    assert listed.records[0] | {"number": 1, "status": "completed", "data": "demo", "step": 3} == listed.records[0]
    assert "0001-mine" in say(ws, "runs").out

    watched = say(ws, "watch", "mine", "--json")
    assert [record["type"] for record in watched.records[:2]] == ["Started", "Phase"]
    assert watched.result["status"] == "completed"
    assert say(ws, "watch").out.count("StepDone") == 4

    assert say(ws, "resume", "mine").code == 2
    assert say(ws, "train", "--recipe", "lora", "--data", "demo", "--name", "mine").code == 2


def test_a_run_without_a_name_takes_that_of_its_recipe(say: Say, ws: Path, training: FakeTraining) -> None:
    for _ in range(2):
        assert say(ws, "train", "--recipe", "full", "--data", "demo").code == 0
    assert sorted(path.name for path in (ws / "runs").iterdir()) == ["0001-full", "0002-full-2"]


@pytest.mark.parametrize("request_", ["pause", "resume", "stop", "save", "preview"])
def test_control_leaves_a_word_for_whoever_works(request_: str, say: Say, ws: Path) -> None:
    run = ws / "runs" / "0001-mine"
    journal = Journal(run / "events.jsonl")
    assert say(ws, "control", "mine", request_, "--json").result["request"] == request_
    assert (run / "control").read_text() == f"{request_}\n"
    journal.close()


def test_control_of_a_run_that_does_not_run_ends_with_2(say: Say, ws: Path) -> None:
    (ws / "runs" / "0001-mine").mkdir()
    answer = say(ws, "control", "mine", "stop", "--json")
    assert answer.code == 2
    assert "is not running" in answer.error


def test_control_of_a_completed_run_says_so_and_advises_nothing(say: Say, ws: Path, training: FakeTraining) -> None:
    say(ws, "train", "--recipe", "lora", "--data", "demo", "--name", "mine")
    answer = say(ws, "control", "mine", "stop", "--json")
    assert answer.code == 2
    assert answer.result["error"] == {
        "message": "0001-mine has completed all its steps, so nobody works on it.",
        "hint": "",
    }


def test_an_unfinished_run_goes_on_by_the_same_command_alone(
    say: Say, ws: Path, training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(context: Context) -> Done:
        context.emit(Started("train", context.device))
        raise StudioError("cpu ran out of memory.")

    words = ("train", "--recipe", "lora", "--data", "demo", "--name", "mine", "--json")
    with monkeypatch.context() as patch:
        patch.setitem(jobs.KINDS, "train", failing)
        assert say(ws, *words).code == 1
    before = listing(ws)
    answer = say(ws, *words, "--set", "rank=2", "--set", "steps=7")
    assert answer.code == 2
    assert "method.rank (16, now 2)" in answer.error
    assert "resume mine" in answer.error
    assert listing(ws) == before
    assert say(ws, *words).code == 0


def test_a_batch_that_stopped_goes_on_by_its_name_alone(say: Say, ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(context: Context) -> Done:
        context.emit(Started("generate", context.device))
        if context.folder.path.joinpath("tiles").is_dir():
            return Done({"saved": 2, "requested": 2, "batch": context.folder.path.name})
        tiles = context.folder.path / "tiles"
        tiles.mkdir()
        Image.new("RGB", (8, 8)).save(tiles / "000001.png")
        return Done({"saved": 1, "requested": 2, "batch": context.folder.path.name}, "stopped")

    monkeypatch.setitem(jobs.KINDS, "generate", half)
    assert say(ws, "generate", "--prompt", "a river", "--count", "2", "--as", "tiles").code != 0
    other = say(ws, "generate", "--prompt", "a desert", "--count", "2", "--as", "tiles")
    assert (other.code, "resume tiles" in other.err) == (2, True)
    answer = say(ws, "resume", "tiles", "--json")
    assert (answer.code, answer.result["saved"]) == (0, 2)
    assert say(ws, "resume", "tiles").code == 2
    assert "resume" not in say(ws, "resume", "no-such").out


def test_a_batch_that_failed_without_a_tile_frees_its_name(say: Say, ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(context: Context) -> Done:
        context.emit(Started("generate", context.device))
        raise StudioError("The sampler gave no finite numbers.")

    monkeypatch.setitem(jobs.KINDS, "generate", failing)
    before = listing(ws)
    assert say(ws, "generate", "--prompt", "a river", "--as", "tiles").code == 1
    assert listing(ws) == before


def test_a_batch_that_failed_for_reasons_only_its_log_tells_stays_and_takes_other_settings(
    say: Say, ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(context: Context) -> Done:
        raise ValueError("deep")

    monkeypatch.setitem(jobs.KINDS, "generate", failing)
    assert say(ws, "generate", "--prompt", "a river", "--as", "tiles").code == 1
    assert "deep" in (ws / "batches/tiles/log.txt").read_text()
    monkeypatch.setitem(jobs.KINDS, "generate", lambda context: Done({"batch": "tiles", "requested": 1, "saved": 1}))
    assert say(ws, "generate", "--prompt", "a desert", "--steps", "2", "--as", "tiles").code == 0
    assert "a desert" in (ws / "batches/tiles/plan.jsonl").read_text()


def test_watching_a_run_that_never_begins_comes_to_an_end(say: Say, ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.listing._SECONDS_TO_BEGIN", 0.0)
    (ws / "runs" / "0001-mine").mkdir()
    assert say(ws, "watch", "--json").result == {
        "type": "result", "command": "watch", "outcome": "completed", "exit": 0,
        "run": "0001-mine", "events": 0, "status": "new",
    }  # fmt: skip


def test_check_tells_each_problem_and_ends_with_1(say: Say, ws: Path) -> None:
    assert say(ws, "check", "--deep").code == 0
    broken = next((ws / "datasets" / "demo" / "images").iterdir())
    data = bytearray(broken.read_bytes())
    data[-1] ^= 1
    broken.write_bytes(data)
    answer = say(ws, "check", "--deep", "--json")
    assert answer.code == 1
    assert [record for record in answer.records if record["type"] == "problem"] == [
        {"type": "problem", "path": str(broken), "kind": "changed"}
    ]
    assert answer.result["problems"] == 1


def test_a_lost_index_is_made_again(say: Say, ws: Path) -> None:
    (ws / "catalog.db").unlink(missing_ok=True)
    assert say(ws, "check").code == 0
    assert (ws / "catalog.db").is_file()


def test_doctor_tells_of_the_machine_even_without_a_workspace(say: Say, ws: Path) -> None:
    assert say(ws, "doctor").code == 0
    answer = say(ws / "none", "doctor", "--json")
    assert answer.code == 2
    assert {"rs-studio", "python", "cpu", "disk"} <= {record["name"] for record in answer.records[:-1]}


def test_suggestions_have_a_source_and_a_length(say: Say, ws: Path) -> None:
    answer = say(ws, "suggest", "-n", "4", "--json")
    assert answer.result["suggestions"] == len(answer.records) - 1 == 4
    for record in answer.records[:-1]:
        assert record["tokens"] <= 77
        assert record["text"]
        assert record["source"]


def test_a_data_set_is_exported_once_to_a_target(say: Say, ws: Path, tmp_path: Path) -> None:
    answer = say(ws, "export", "demo", "--to", "gallery", tmp_path / "out", "--json")
    assert answer.code == 0
    assert answer.result["target"] == str(tmp_path / "out")
    assert answer.result["files"] == sum(path.is_file() for path in (tmp_path / "out").rglob("*"))
    before = listing(ws)
    assert say(ws, "export", "demo", "--to", "gallery", tmp_path / "out").code == 2
    assert listing(ws) == before


# Failures


def test_settings_found_wrong_by_the_job_itself_leave_no_folder(
    say: Say, ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(context: jobs.Context) -> Done:
        context.emit(Started("train", context.device))
        raise UsageError("The pictures are too small.", "Choose others.")

    monkeypatch.setitem(jobs.KINDS, "train", refusing)
    before = listing(ws)
    answer = say(ws, "train", "--recipe", "lora", "--data", "demo", "--json")
    assert answer.code == 2
    assert listing(ws) == before


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("deep"), 1), (PermissionError(13, "Permission denied", "x"), 2), (OSError(28, "No space left"), 1)],
)
def test_a_fault_outside_a_job_is_still_told_as_a_result(
    error: Exception, code: int, say: Say, ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(workspace: Workspace) -> None:
        raise error

    monkeypatch.setattr("studio.listing.run_records", broken)
    answer = say(ws, "runs", "--json")
    assert answer.code == code
    assert str(error.args[-1]) in answer.error


def test_a_device_that_is_not_there_is_told_before_anything_is_made(
    say: Say, ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.devices.gpu_loads", list)
    monkeypatch.setattr("studio.devices._OTHER_GPUS", ())
    before = listing(ws)
    for device in ("cuda:0", "tpu", "", "cpu:1"):
        words = ("train", "--recipe", "lora", "--data", "demo", f"--device={device}")
        if device:
            assert "There is no device named" in say(ws, *words, "--json").error
    assert listing(ws) == before


def test_the_callers_streams_and_signals_are_given_back(say: Say, ws: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    stream = os.fstat(1)
    say(ws, "runs")
    assert (os.fstat(1).st_dev, os.fstat(1).st_ino) == (stream.st_dev, stream.st_ino)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_place_for_files(closed: str, tmp_path: Path) -> None:
    """Else the journal would become descriptor 1, and whatever a library prints a part of it."""
    command = f'"$0" -c "from studio.cli import entry; entry()" ws import demo:10 --as demo {closed}'
    ran = subprocess.run(["sh", "-c", command, sys.executable], cwd=tmp_path, check=False)
    assert ran.returncode == 0
    assert (tmp_path / "ws" / "datasets" / "demo" / "dataset.toml").is_file()
    lines = (tmp_path / "ws" / "datasets" / "demo" / "events.jsonl").read_text().splitlines()
    assert all(line.startswith("{") for line in lines)


def test_opening_the_studio_where_there_is_no_terminal_ends_with_2(say: Say, tmp_path: Path) -> None:
    answer = say(tmp_path / "ws")
    assert answer.code == 2
    assert answer.out == ""
    assert "needs a terminal" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_every_command_has_a_function_of_its_own() -> None:
    _, commands = make_parser()
    assert list(commands) == COMMANDS
    assert len({parser.get_default("run") for parser in commands.values()}) == len(COMMANDS)
