"""Runs in two processes, over gloo: they end as one process would, and are steered, fail and go on as one run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from studio import requests
from studio.control import Control
from studio.errors import StudioError
from studio.events import CheckpointSaved, Event, Started, StepDone, Warned
from studio.models import checkpoints
from studio.runs import state_of
from studio.settings import TrainSettings
from studio.training.processes import Team
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import make_dataset, newest, resume, run, settings, train, weights_of

REPOSITORY = Path(__file__).resolve().parents[3]
STEPS = 4


def lora(base: Path, **other: object) -> TrainSettings:
    return settings(base, {"name": "lora", "rank": 2, "alpha": 2.0}, STEPS, **({"batch": 3} | other))


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"], kept = "1", os.environ.get("OMP_NUM_THREADS")
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        os.environ |= {"OMP_NUM_THREADS": kept} if kept else {}
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny_flow: Path, tiny_epsilon: Path) -> Iterator[Workspace]:
    """Every run that is compared below, done by this process alone, by two others, or by one after the other."""
    made = make_workspace(tmp_path_factory.mktemp("processes") / "workspace")
    make_dataset(made)
    full = settings(tiny_epsilon, {"name": "full"}, STEPS, batch=2, accumulation=2, ema=0.9)

    def stopping(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            control.ask("stop")

    with one_thread():
        train(made, lora(tiny_flow), "alone")
        train(made, full, "alone-full")
        train(made, lora(tiny_flow), "one-then-two", stopping)
        for name in ("two", "parted", "two-then-one"):
            requests.train_job(made, lora(tiny_flow), name)
        requests.train_job(made, full, "two-full")
        requests.train_job(made, lora(tiny_flow, batch=4), "short")
        in_two_processes(made, "two", "parted@2", "parted", "two-full", "two-then-one@2", "one-then-two", "short")
        resume(made, "two-then-one")
        yield made


def in_two_processes(workspace: Workspace, *runs: str) -> None:
    script = Path(__file__).with_name("several_runs.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost"]
    command += ["--nproc-per-node", "2", str(script), str(workspace.root), *runs]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tensors_of(workspace: Workspace, name: str) -> dict[str, Tensor]:
    return checkpoints.load(newest(workspace.run(name)))[0]


@pytest.mark.parametrize(
    ("name", "alone"),
    [("two", "alone"), ("two-full", "alone-full"), ("two-then-one", "alone"), ("one-then-two", "alone")],
)
def test_two_processes_learn_what_one_does(name: str, alone: str, workspace: Workspace) -> None:
    """The same losses, weights, averages and optimiser's state, but for the order in which float32 is summed."""
    losses, wanted = state_of(workspace.run(name)).losses, state_of(workspace.run(alone)).losses
    assert [step for step, _ in losses] == [step for step, _ in wanted] == list(range(1, STEPS + 1))
    assert [loss for _, loss in losses] == pytest.approx([loss for _, loss in wanted], rel=1e-6)
    there, expected = tensors_of(workspace, name), tensors_of(workspace, alone)
    assert there.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(there[key], tensor, rtol=1e-5, atol=2e-6, msg=key)
    begun = checkpoints.load(newest(workspace.run(name)))[1]["processes"]
    assert begun == (1 if name == "two-then-one" else 2)


def test_two_processes_stopped_and_resumed_end_as_if_they_had_not_been(workspace: Workspace) -> None:
    assert weights_of(workspace.run("parted")) == weights_of(workspace.run("two"))
    assert state_of(workspace.run("parted")).losses == state_of(workspace.run("two")).losses


def test_where_one_runs_out_of_memory_all_take_fewer_pictures_at_once(workspace: Workspace) -> None:
    state = state_of(workspace.run("short"))
    warned = [event.message for _, event in state.recent if isinstance(event, Warned)]
    assert "Memory ran out at step 3: going on with 1 pictures at once." in warned
    assert [step for step, _ in state.losses] == list(range(1, STEPS + 1))
    assert checkpoints.load(newest(workspace.run("short")))[1]["micro_batch"] == 1


@pytest.mark.soak
def test_a_run_whose_process_dies_ends_and_can_be_resumed(made_workspace: Workspace, tiny_flow: Path) -> None:
    """Started as every front does; asked to save, then bereft of its second process."""
    make_dataset(made_workspace)
    told = lora(tiny_flow, checkpoint_every=10_000, validate_every=10_000)
    told = told.model_copy(update={"optimiser": told.optimiser.model_copy(update={"steps": 10_000})})
    job = requests.train_job(made_workspace, told, "bereft", processes=2)
    assert requests.job_of(made_workspace, job.folder).processes == 2

    def watch(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            control.ask("save")
        if isinstance(event, CheckpointSaved):
            followers[0].send_signal(signal.SIGKILL)
        if isinstance(event, StepDone) and not followers:
            followers.extend(one for one in psutil.Process().children(recursive=True) if rank_of(one) == "1")

    followers: list[psutil.Process] = []
    with one_thread():
        finished, events = run(job, watch)
        saved = [event.step for event in events if isinstance(event, CheckpointSaved)]
        assert (finished.outcome, finished.exit_code, len(saved)) == ("failed", 1, 1)
        assert "lost the others" in finished.message or "died" in finished.message
        assert not job.folder.is_active()
        assert state_of(job.folder.path).status == "failed"

        def stop(event: Event, control: Control) -> None:
            control.ask("stop")

        alone = replace(requests.resume_job(made_workspace, "bereft"), processes=1)
        stopped, events = run(alone, stop)
    assert stopped.outcome == "stopped"
    assert [event.from_step for event in events if isinstance(event, Started)] == saved


def rank_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("RANK", "")
    except psutil.Error:
        return ""


@pytest.mark.soak
def test_the_command_stops_all_its_processes_and_goes_on_with_them(tmp_path: Path, tiny_flow: Path) -> None:
    """SIGTERM ends it with 75; killed, its processes stop by themselves; resumed, it trains to its end."""
    workspace = make_workspace(tmp_path / "workspace")
    make_dataset(workspace)
    told = lora(tiny_flow, checkpoint_every=10_000, validate_every=10_000)
    told = told.model_copy(update={"optimiser": told.optimiser.model_copy(update={"steps": 400})})
    job = requests.train_job(workspace, told, "steered", processes=2)
    command = [sys.executable, "-m", "studio", "--json", str(workspace.root), "resume", "steered"]

    def begun() -> subprocess.Popen[str]:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert any('"steps_per_second"' in line for line in process.stdout)
        return process

    with one_thread():
        process = begun()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=120)[0].splitlines()[-1].startswith('{"type": "result"')
        assert process.returncode == 75
        first = state_of(job.folder.path)
        assert (first.status, first.step) == ("stopped", checkpoints.step_of(newest(job.folder.path)))
        process = begun()
        process.kill()
        process.communicate()
        psutil.wait_procs([one for one in psutil.process_iter() if str(workspace.root) in words_of(one)], timeout=60)
        second = state_of(job.folder.path)
        assert second.status == "stopped"
        assert first.step < second.step == checkpoints.step_of(newest(job.folder.path)) < 400
        assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0
    assert [step for step, _ in state_of(job.folder.path).losses] == list(range(1, 401))


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class TestTeam:
    @pytest.mark.parametrize(("rows", "size"), [(4, 2), (7, 3), (5, 5), (1, 1)])
    def test_every_row_is_some_process_own(self, rows: int, size: int) -> None:
        parts = [Team(rank, size).own(range(rows)) for rank in range(size)]
        assert [row for part in parts for row in part] == list(range(rows))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def test_there_has_to_be_a_row_for_each(self) -> None:
        with pytest.raises(StudioError, match="An effective batch of 2 cannot be spread over 3 processes"):
            Team(0, 3).own(range(2))

    def test_one_alone_asks_nobody(self) -> None:
        team = Team()
        assert (team.agree("a"), team.add(1.5, True), team.after_the_first(lambda: 3)) == ("a", [1.5, True], 3)
