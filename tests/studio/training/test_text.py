"""Teaching a text encoder: captions come to tell classes and pictures, exactly resumable, and a pipeline loads it."""

from pathlib import Path

import pytest
import torch

from studio import files
from studio.events import MetricMeasured, StepDone
from studio.models.load import load_model
from studio.models.registry import resolve
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import make_dataset, newest, resume, settings, train, weights_of

TEXT = {"name": "text"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = make_workspace(tmp_path / "workspace")
    make_dataset(made, train=24, valid=6)
    return made


def test_captions_come_to_tell_the_class(workspace: Workspace, tiny_flow: Path) -> None:
    told = settings(tiny_flow, TEXT, 30, batch=12, learning_rate=3e-3, measure_every=30, validation_images=6)
    finished, events, _ = train(workspace, told, "read")
    assert finished.outcome == "completed"
    first, *_, last = (event.loss for event in events if isinstance(event, StepDone))
    assert last < first
    *_, told_classes = (event for event in events if isinstance(event, MetricMeasured))
    assert told_classes.name == "caption_accuracy"
    assert told_classes.n_real == 12
    assert told_classes.value > 0.8  # each caption holds the word of its class


def test_the_encoder_is_all_that_changes(workspace: Workspace, tiny_flow: Path) -> None:
    _, _, run = train(workspace, settings(tiny_flow, TEXT, 2, batch=6), "read")
    before = load_model(resolve(workspace, str(tiny_flow)), "cpu")
    after = load_model(resolve(workspace, run.name), "cpu")
    assert all(
        torch.equal(one.half(), other.half())
        for one, other in zip(before.unet.parameters(), after.unet.parameters(), strict=True)
    )
    assert not torch.equal(before.embed(["one river"]).states, after.embed(["one river"]).states)


def test_what_it_cannot_teach_is_refused(workspace: Workspace, tiny_flow: Path, narrow_xl: Path) -> None:
    finished, _, _ = train(workspace, settings(narrow_xl, TEXT, 2), "two")
    assert "has two text encoders" in finished.message
    captions = workspace.datasets / "set" / "captions.jsonl"
    finished, _, _ = train(workspace, settings(tiny_flow, TEXT, 2), "one")
    assert finished.outcome == "completed", finished.message
    rows = [row | {"label": ""} for row in files.read_records(captions)]
    captions.unlink()
    for row in rows:
        files.append_record(captions, row)
    finished, _, _ = train(workspace, settings(tiny_flow, TEXT, 2), "unnamed")
    assert "has pictures without a class" in finished.message
    assert {finished.exit_code} == {2}


def test_what_the_base_learnt_to_predict_stays(workspace: Workspace, tiny_epsilon: Path) -> None:
    told = settings(tiny_epsilon, {"name": "full"}, 1, objective="v", data={"normalisation": "dataset"})
    train(workspace, told, "base")
    _, _, run = train(workspace, settings(Path("base"), TEXT, 1), "read")
    base, read = (load_model(resolve(workspace, name), "cpu") for name in ("base", run.name))
    assert (read.objective, read.normalisation) == (base.objective, base.normalisation)
    assert read.objective == "v"
    assert read.normalisation is not None


def test_a_run_stopped_and_resumed_ends_as_one_that_was_not(workspace: Workspace, tiny_flow: Path) -> None:
    told = settings(tiny_flow, TEXT, 4, batch=6)
    _, _, whole = train(workspace, told, "whole")
    _, _, parted = train(
        workspace,
        told,
        "parted",
        lambda event, control: control.ask("stop") if isinstance(event, StepDone) and event.step == 1 else None,
    )
    finished, _ = resume(workspace, "parted")
    assert finished.result["from_step"] == 1
    assert weights_of(parted) == weights_of(whole)
    assert newest(parted).name == "step-000004"
