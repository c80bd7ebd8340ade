"""Knowing to be one of several processes, and which numbers of them are possible."""

import shutil
from pathlib import Path

import pytest

from studio import launch, requests
from studio.control import Control
from studio.errors import UsageError
from studio.events import Event
from studio.jobs import execute
from studio.runs import state_of
from studio.settings import ImportSettings, TrainSettings
from studio.workspace import Workspace
from tests.studio.command_line import Say, speaker


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    return speaker(capfd)


@pytest.mark.parametrize(
    ("environment", "several", "follows"),
    [
        ({}, False, False),
        ({"RANK": "0", "WORLD_SIZE": "1"}, False, False),
        ({"WORLD_SIZE": "4"}, False, False),
        ({"RANK": "0", "WORLD_SIZE": "4"}, True, False),
        ({"RANK": "3", "WORLD_SIZE": "4"}, True, True),
    ],
)
def test_a_process_knows_its_place(
    environment: dict[str, str], several: bool, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (launch.is_one_of_several(), launch.follows()) == (several, follows)


class TestNumbers:
    @pytest.mark.parametrize("device", ["cpu", "cuda:1"])
    def test_one_process_may_use_any_device(self, device: str) -> None:
        launch.check_processes(1, device)

    @pytest.mark.parametrize("processes", [0, -1, 1025])
    def test_impossible_ones_are_refused(self, processes: int) -> None:
        with pytest.raises(UsageError, match=f"{processes} processes are not possible"):
            launch.check_processes(processes, "cpu")

    def test_one_gpu_is_not_shared(self) -> None:
        with pytest.raises(UsageError, match="cuda:1 is one device"):
            launch.check_processes(2, "cuda:1")

    def test_each_process_needs_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
        launch.check_processes(2, "cuda:0")
        with pytest.raises(UsageError, match="3 processes need as many GPUs, and 2 can be used"):
            launch.check_processes(3, "cuda:0")

    def test_the_command_line_tells_and_makes_nothing(self, say: Say, tmp_path: Path) -> None:
        words = ["train", "--recipe", "lora", "--data", "demo", "--device", "cpu", "--processes", "0", "--json"]
        told = say(tmp_path / "ws", *words)
        assert (told.code, "0 processes are not possible" in told.error) == (2, True)
        assert not (tmp_path / "ws").exists()


def test_what_is_asked_is_handed_on_once() -> None:
    control = Control()
    control.ask("save")
    control.ask("stop")
    assert control.hand_on() == ["save", "stop"]
    assert control.hand_on() == []
    assert control.stopping


def test_where_no_process_can_begin_the_run_has_failed_and_its_log_says_why(made_workspace: Workspace) -> None:
    settings = ImportSettings(source="demo:10", name="tiles")
    assert execute(requests.import_job(made_workspace, settings), Control()).outcome == "completed"
    told = TrainSettings.model_validate({"data": {"name": "tiles"}})
    job = requests.train_job(made_workspace, told, "two", processes=2)
    shutil.rmtree(made_workspace.datasets / "tiles")
    seen: list[Event] = []
    finished = execute(job, Control(), seen.append)
    assert (finished.outcome, finished.exit_code, seen) == ("failed", 1, [finished])
    assert finished.message == "A process of this run died, and the others were ended."
    assert state_of(job.folder.path).finished == finished
    assert "tiles" in job.folder.log_path.read_text()
