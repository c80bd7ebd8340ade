"""Whole runs of tiny models: stopped, killed, torn and gone on with, they end as if nothing had happened."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from studio import requests
from studio.context import Context
from studio.control import Control
from studio.errors import UsageError
from studio.events import (
    CheckpointSaved,
    Event,
    MetricMeasured,
    Paused,
    Phase,
    PreviewSaved,
    Resumed,
    Started,
    StepDone,
    Validated,
)
from studio.images import read_recipe
from studio.models import checkpoints
from studio.runs import state_of
from studio.settings import TrainSettings
from studio.training.diffusion import Diffusion
from studio.training.pictures import open_pictures
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import (
    AUTOENCODER,
    SCRATCH,
    Watch,
    make_dataset,
    newest,
    resume,
    settings,
    train,
    weights_of,
)
from tests.studio.training_runs import run as do

REPOSITORY = Path(__file__).resolve().parents[3]
STEPS = 6


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_workspace(tmp_path_factory.mktemp("runs") / "workspace")
    make_dataset(made)
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Workspace:
    made = make_workspace(tmp_path / "workspace")
    make_dataset(made)
    return made


def asking(request: str, step: int) -> Watch:
    def watch(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == step:
            control.ask(request)

    return watch


def lora(base: Path, **other: object) -> TrainSettings:
    return settings(base, {"name": "lora", "rank": 2, "alpha": 1.0}, STEPS, **other)


@pytest.fixture(scope="module")
def whole(workspace: Workspace, tiny_flow: Path) -> Path:
    """A LoRA run that nothing disturbed."""
    finished, _, folder = train(workspace, lora(tiny_flow), "whole")
    assert finished.outcome == "completed"
    return folder


def model_files(run: Path) -> dict[str, bytes]:
    """The weights that other tools load from the newest checkpoint; the headers before them name the run and day."""
    checkpoint = newest(run)

    def tensors(path: Path) -> bytes:
        data = path.read_bytes()
        return data[8 + int.from_bytes(data[:8], "little") :]

    return {
        str(path.relative_to(checkpoint)): tensors(path)
        for path in checkpoint.rglob("*.safetensors")
        if path.name != checkpoints.TRAINING_FILE
    }


def assert_same_end(run: Path, undisturbed: Path) -> None:
    assert weights_of(run) == weights_of(undisturbed)
    assert model_files(run) == model_files(undisturbed) != {}
    state, wanted = state_of(run), state_of(undisturbed)
    assert [step for step, _ in state.losses] == list(range(1, STEPS + 1))
    assert state.losses == wanted.losses
    assert [(one.step, one.loss) for one in state.validations] == [(one.step, one.loss) for one in wanted.validations]


def test_a_run_tells_what_it_does(whole: Path, workspace: Workspace) -> None:
    state = state_of(whole)
    assert (state.status, state.step, state.steps) == ("completed", STEPS, STEPS)
    assert state.finished is not None
    assert state.finished.result == {
        "run": whole.name,
        "from_step": 0,
        "step": STEPS,
        "steps": STEPS,
        "checkpoint": str(newest(whole)),
        "best_step": min((one.loss, one.step) for one in state.validations if one.step)[1],
        "validation_loss_first": state.validations[0].loss,
        "validation_loss_last": state.validations[-1].loss,
    }
    assert [one.step for one in state.validations] == [0, 2, 4, 6]
    facts = json.loads((newest(whole) / "state.json").read_text())
    assert facts["threads"] == torch.get_num_threads()
    assert facts["objective"] == "flow"


def test_a_run_takes_its_first_step_before_all_is_encoded(fresh: Workspace, tiny_flow: Path, whole: Path) -> None:
    finished, events, run = train(fresh, lora(tiny_flow), "fresh")
    assert finished.outcome == "completed"
    encoded = [event for event in events if isinstance(event, Phase) and event.name == "Encoding pictures"]
    first_step = next(place for place, event in enumerate(events) if isinstance(event, StepDone))
    assert events.index(encoded[0]) < first_step < events.index(encoded[-1])
    assert_same_end(run, whole)


def test_a_run_stopped_while_encoding_keeps_the_steps_before(fresh: Workspace, tiny_flow: Path, whole: Path) -> None:
    steps = list[int]()

    def stop_in_the_third_portion(event: Event, control: Control) -> None:
        if isinstance(event, StepDone):
            steps.append(event.step)
        elif isinstance(event, Phase) and event.name == "Encoding pictures" and steps[-1:] == [2]:
            control.ask("stop")

    finished, _, run = train(fresh, lora(tiny_flow, checkpoint_every=100), "stopped", stop_in_the_third_portion)
    assert (finished.outcome, steps) == ("stopped", [1, 2])
    assert checkpoints.step_of(newest(run)) == 2
    assert resume(fresh, "stopped")[0].outcome == "completed"
    assert_same_end(run, whole)


@pytest.mark.parametrize("method", ["lora", "full", "scratch", "autoencoder"])
def test_a_run_stopped_twice_ends_as_one_that_was_not(
    method: str, workspace: Workspace, tiny_flow: Path, tiny_epsilon: Path
) -> None:
    told = {
        "lora": lora(tiny_flow),
        "full": settings(tiny_epsilon, {"name": "full"}, STEPS, ema=0.9, accumulation=2, precision="bf16"),
        "scratch": settings(tiny_flow, SCRATCH, STEPS, objective="flow"),
        "autoencoder": settings("", AUTOENCODER, STEPS, ema=0.5),
    }[method]
    _, _, undisturbed = train(workspace, told, f"{method}-whole")
    stopped, events, run = train(workspace, told, f"{method}-parted", asking("stop", 1))
    assert (stopped.outcome, stopped.exit_code, stopped.result["step"]) == ("stopped", 75, 1)
    job = requests.resume_job(workspace, f"{method}-parted")
    stopped, events = do(job, asking("stop", 3))
    assert [event.from_step for event in events if isinstance(event, Started)] == [1]
    assert stopped.result["step"] == 3
    finished, _ = resume(workspace, f"{method}-parted")
    assert (finished.outcome, finished.result["from_step"]) == ("completed", 3)
    assert_same_end(run, undisturbed)


def test_a_killed_run_ends_as_one_that_was_not(fresh: Workspace, tiny_flow: Path, whole: Path) -> None:
    """In a process of its own, ended by SIGKILL in the middle of a step; nothing of it but its files is left."""
    told = lora(tiny_flow)
    job = requests.train_job(fresh, told, "killed")
    code = (
        "import sys; from pathlib import Path; from studio import requests; from studio.control import Control;"
        "from studio.jobs import execute; from studio.workspace import Workspace;"
        "execute(requests.resume_job(Workspace(Path(sys.argv[1])), 'killed'), Control(),"
        " lambda event: print(type(event).__name__, getattr(event, 'step', ''), flush=True))"
    )
    command = [sys.executable, "-c", code, str(fresh.root)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.split() == ["StepDone", "5"]:
                child.kill()
    assert child.returncode == -9
    assert state_of(job.folder.path).status == "interrupted"
    with job.folder.journal_path.open("ab") as journal:
        journal.write(b'{"type":"StepDo')  # a line torn by the kill
    assert resume(fresh, "killed")[0].outcome == "completed"
    assert state_of(job.folder.path).from_step == 4
    assert_same_end(job.folder.path, whole)


def test_a_torn_checkpoint_is_passed_over(workspace: Workspace, tiny_flow: Path, whole: Path) -> None:
    _, _, run = train(workspace, lora(tiny_flow), "torn", asking("stop", 5))
    weights = newest(run) / checkpoints.TRAINING_FILE
    assert checkpoints.step_of(weights.parent) == 5
    data = bytearray(weights.read_bytes())
    data[-3] ^= 4
    weights.write_bytes(data)
    finished, events = resume(workspace, "torn")
    assert [event.from_step for event in events if isinstance(event, Started)] == [4]
    assert finished.outcome == "completed"
    assert_same_end(run, whole)


def test_a_run_killed_between_its_last_save_and_its_end_is_done(workspace: Workspace, tiny_flow: Path) -> None:
    _, _, run = train(workspace, lora(tiny_flow), "late")
    journal = run / "events.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    assert state_of(run).status == "interrupted"
    finished, events = resume(workspace, "late")
    assert (finished.outcome, finished.result["from_step"], finished.result["step"]) == ("completed", STEPS, STEPS)
    assert not [event for event in events if isinstance(event, StepDone)]


def test_a_word_left_for_a_process_that_is_gone_is_not_obeyed(workspace: Workspace, tiny_flow: Path) -> None:
    job = requests.train_job(workspace, settings(tiny_flow, steps=1), "deaf")
    job.folder.control_path.write_text("stop\n")
    assert resume(workspace, "deaf")[0].outcome == "completed"


def test_a_save_and_a_preview_can_be_asked_for(workspace: Workspace, tiny_flow: Path) -> None:
    def watch(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            control.ask("save")
            control.ask("preview")

    told = settings(tiny_flow, steps=3, checkpoint_every=100, preview_prompts=["one river", "some road"])
    _, events, run = train(workspace, told, "asked", watch)
    assert [event.step for event in events if isinstance(event, CheckpointSaved)] == [2, 3]
    shown = [event for event in events if isinstance(event, PreviewSaved)]
    assert [(one.step, one.prompt, one.seed) for one in shown] == [
        (2, "one river", 1000), (2, "some road", 1001), (3, "one river", 1000), (3, "some road", 1001),
    ]  # fmt: skip
    assert read_recipe(run / shown[0].path)["prompt"] == "one river"


def test_a_run_measures_its_kernel_distance_and_trains_as_if_it_had_not(
    workspace: Workspace, tiny_flow: Path, starter: Path
) -> None:
    told = settings(tiny_flow, steps=2, measure_every=1, preview_steps=1)
    _, events, run = train(workspace, told, "measured")
    found = [event for event in events if isinstance(event, MetricMeasured)]
    assert [(one.name, one.step, one.n_real, one.n_generated) for one in found] == [("kid", 1, 3, 3), ("kid", 2, 3, 3)]
    assert all(one.network.startswith("starter-encoder") and one.floor is not None for one in found)
    _, _, plain = train(workspace, settings(tiny_flow, steps=2), "plain")
    assert weights_of(run) == weights_of(plain)


def test_a_paused_run_goes_on_when_asked(workspace: Workspace, tiny_flow: Path) -> None:
    def watch(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            control.ask("pause")
        if isinstance(event, Paused):
            control.ask("resume")

    finished, events, _ = train(workspace, settings(tiny_flow, steps=2), "paused", watch)
    kinds = [type(event) for event in events if isinstance(event, StepDone | Paused | Resumed)]
    assert kinds == [StepDone, Paused, Resumed, StepDone]
    assert finished.outcome == "completed"


def test_the_last_few_and_the_best_checkpoint_are_kept(workspace: Workspace, tiny_flow: Path) -> None:
    told = settings(tiny_flow, steps=5, checkpoint_every=2, validate_every=1, keep_last=1, learning_rate=0.5)
    _, _, run = train(workspace, told, "kept")
    seen = {one.step: one.loss for one in state_of(run).validations if one.step in (2, 4, 5)}
    kept = [checkpoints.step_of(path) for path in checkpoints.all_of(run)]
    assert kept == sorted({5, min(seen, key=lambda step: seen[step])})


class TestNotANumber:
    @pytest.mark.parametrize("poison", [float("nan"), float("inf")])
    def test_a_broken_loss_ends_the_run_before_the_step(
        self, poison: float, fresh: Workspace, tiny_flow: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = Diffusion.loss

        def loss(self: Diffusion, step: int, micro: int) -> Tensor:
            return honest(self, step, micro) * (poison if step == 4 else 1)

        monkeypatch.setattr(Diffusion, "loss", loss)
        finished, events, run = train(fresh, lora(tiny_flow), "nan")
        assert (finished.outcome, finished.exit_code) == ("failed", 1)
        assert "step 5 is not a finite number" in finished.message
        assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
        tensors, _ = checkpoints.load(newest(run))
        assert checkpoints.step_of(newest(run)) == 4
        assert all(torch.isfinite(one).all() for one in tensors.values())

    def test_a_broken_gradient_does_too(
        self, fresh: Workspace, tiny_flow: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = Diffusion.loss

        def loss(self: Diffusion, step: int, micro: int) -> Tensor:
            # The root of zero is zero and its slope is not a number.
            return honest(self, step, micro) + (next(iter(self.parameters.values())) * 0).sum().sqrt()

        monkeypatch.setattr(Diffusion, "loss", loss)
        finished, _, run = train(fresh, lora(tiny_flow), "nan")
        assert "gradient of step 1 is not a finite number" in finished.message
        assert checkpoints.all_of(run) == []

    def test_weights_that_broke_are_not_saved(
        self, fresh: Workspace, tiny_flow: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def watch(event: Event, control: Control) -> None:
            if isinstance(event, StepDone) and event.step == 1:
                for task in tasks:
                    next(iter(task.parameters.values())).data.fill_(torch.inf)

        tasks: list[Diffusion] = []
        prepare = Diffusion.prepare
        monkeypatch.setattr(Diffusion, "prepare", lambda self: tasks.append(self) or prepare(self))
        told = lora(tiny_flow, checkpoint_every=1, validate_every=100)
        finished, _, run = train(fresh, told, "inf", watch)
        assert "no longer finite at step 1" in finished.message
        assert checkpoints.all_of(run) == []


def test_the_validation_loss_is_measured_on_the_same_thing_always(
    workspace: Workspace, tiny_flow: Path, whole: Path
) -> None:
    """A LoRA begins as nothing, so before the first step every run measures the base model."""
    _, events, _ = train(workspace, settings(tiny_flow, {"name": "lora", "rank": 4}, steps=1, batch=1), "other")
    first = next(event for event in events if isinstance(event, Validated))
    assert first.loss == state_of(whole).validations[0].loss


def test_a_run_begins_where_the_run_that_it_is_based_on_ended(workspace: Workspace, whole: Path) -> None:
    _, events, _ = train(workspace, settings("whole", steps=1, learning_rate=1e-9), "second")
    before, after = (event.loss for event in events if isinstance(event, Validated))
    assert before == pytest.approx(state_of(whole).validations[-1].loss, rel=1e-5)
    _, events, _ = train(workspace, settings("second", steps=1, learning_rate=1e-9), "third")
    again = next(event.loss for event in events if isinstance(event, Validated))
    assert again == pytest.approx(after, rel=1e-5)
    assert abs(before / state_of(whole).validations[0].loss - 1) > 1e-4


def test_training_lowers_the_loss(workspace: Workspace, tiny_flow: Path) -> None:
    told = settings(tiny_flow, {"name": "full"}, steps=40, batch=4, learning_rate=3e-3, validate_every=40)
    finished, _, _ = train(workspace, told, "lowered")
    assert finished.result["validation_loss_last"] < 0.8 * finished.result["validation_loss_first"]


class TestInput:
    def test_layers_that_are_not_there_are_named(self, fresh: Workspace, tiny_flow: Path) -> None:
        finished, _, _ = train(fresh, settings(tiny_flow, {"name": "lora", "targets": ["to_q", "proj_x"]}), "a")
        assert (finished.exit_code, finished.message) == (2, "The UNet has no layers named proj_x.")

    def test_one_picture_is_too_few(self, made_workspace: Workspace, tiny_flow: Path) -> None:
        make_dataset(made_workspace, train=1, valid=0)
        finished, _, _ = train(made_workspace, settings(tiny_flow), "a")
        assert (finished.exit_code, finished.message) == (2, "set has no picture left to measure on.")

    def test_an_unknown_data_set_or_base_leaves_no_run(self, fresh: Workspace, tiny_flow: Path) -> None:
        for told in (settings("tiny-flo"), settings(tiny_flow, data={"name": "sett"})):
            with pytest.raises(UsageError):
                requests.train_job(fresh, told, "a")
        assert list(fresh.runs.iterdir()) == []

    def test_a_limit_takes_pictures_from_the_whole_split(self, fresh: Workspace, tiny_flow: Path) -> None:
        job = requests.train_job(fresh, settings(tiny_flow, data={"limit": 4}), "limited")
        context = Context(fresh, job.folder, job.settings, "cpu", lambda event: None, Control())
        training, _ = open_pictures(context, settings(tiny_flow, data={"limit": 4}))
        names = [int(Path(one.file_name).stem) for one in training.pictures]
        assert len(names) == 4
        assert names == sorted(names) != [0, 1, 2, 3]


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
