"""What a run sees of itself between its steps: which checkpoint is best, when to end, and what it forgets."""

import math
from pathlib import Path
from typing import Any

import pytest

from studio.control import Control
from studio.events import Event, Finished, MetricMeasured, Planned, PreviewSaved, StepDone, Validated, Warned
from studio.images import read_recipe
from studio.listing import checkpoint_records
from studio.models import checkpoints
from studio.runs import state_of
from studio.training.probe_prompts import NATURAL, REMOTE_SENSING
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import make_dataset, resume, settings, train, weights_of


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_workspace(tmp_path_factory.mktemp("looks") / "workspace")
    make_dataset(made)
    return made


def of(kind: type[Any], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def worse_every_step(base: Path, **other: Any) -> Any:
    """A step size with which the held-out loss rises from the first step on."""
    told = {"steps": 8, "learning_rate": 0.5, "validate_every": 1, "checkpoint_every": 2, "keep_last": 1}
    return settings(base, {"name": "lora", "rank": 2}, **(told | other))


class TestTheEnd:
    def test_a_run_without_patience_goes_to_its_last_step(self, workspace: Workspace, tiny_flow: Path) -> None:
        finished, _, _ = train(workspace, worse_every_step(tiny_flow), "patient")
        assert (finished.outcome, finished.result["step"]) == ("completed", 8)

    def test_a_run_ends_after_looks_without_a_better_loss(self, workspace: Workspace, tiny_flow: Path) -> None:
        finished, events, run = train(workspace, worse_every_step(tiny_flow, patience=3), "ends")
        losses = [one.loss for one in of(Validated, events)]
        best = min(range(len(losses)), key=lambda step: losses[step])
        assert (finished.outcome, finished.result["step"]) == ("completed", best + 3)
        said = next(one for one in of(Warned, events) if "No better" in one.message)
        assert f"No better validation loss in 3 looks: the run ends at step {best + 3}" in said.message
        assert checkpoints.step_of(checkpoints.all_of(run)[-1]) == best + 3
        assert state_of(run).status == "completed"

    def test_a_stopped_run_ends_where_it_would_have_ended(self, workspace: Workspace, tiny_flow: Path) -> None:
        def stop(event: Event, control: Control) -> None:
            if isinstance(event, StepDone) and event.step == 2:
                control.ask("stop")

        whole, _, undisturbed = train(workspace, worse_every_step(tiny_flow, patience=4), "whole-end")
        _, _, run = train(workspace, worse_every_step(tiny_flow, patience=4), "parted-end", stop)
        finished, _ = resume(workspace, "parted-end")
        assert finished.result["step"] == whole.result["step"]
        assert weights_of(run) == weights_of(undisturbed)

    def test_one_killed_at_its_end_does_not_go_on(self, workspace: Workspace, tiny_flow: Path) -> None:
        _, _, run = train(workspace, worse_every_step(tiny_flow, patience=3), "late-end")
        last = checkpoints.step_of(checkpoints.all_of(run)[-1])
        journal = run / "events.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
        finished, events = resume(workspace, "late-end")
        assert (finished.outcome, finished.result["step"]) == ("completed", last)
        assert not of(StepDone, events)


def test_every_regular_checkpoint_is_measured_and_the_best_is_kept(workspace: Workspace, tiny_flow: Path) -> None:
    told = worse_every_step(tiny_flow, steps=6, validate_every=100)
    _, events, run = train(workspace, told, "ranked")
    assert [one.step for one in of(Validated, events)] == [0, 2, 4, 6]
    losses = {one.step: one.loss for one in of(Validated, events) if one.step}
    records = checkpoint_records(run)
    assert [record["step"] for record in records] == sorted({6, min(losses, key=lambda step: losses[step])})
    assert [record["step"] for record in records if record["best"]] == [min(losses, key=lambda step: losses[step])]
    assert all(record["validation_loss"] == losses[record["step"]] for record in records)


def test_checkpoints_are_ranked_by_the_kernel_distance_where_that_is_chosen(
    workspace: Workspace, tiny_flow: Path, starter: Path
) -> None:
    told = settings(
        tiny_flow, steps=4, checkpoint_every=2, rank_by="kid", measure_every=100, preview_steps=1, keep_last=1
    )
    finished, events, run = train(workspace, told, "by-kid")
    kids = {one.step: one.value for one in of(MetricMeasured, events)}
    assert sorted(kids) == [2, 4]
    assert finished.result["best_step"] == min(kids, key=lambda step: kids[step])
    assert next(one for one in checkpoint_records(run) if one["best"])["metrics"]["kid"] == min(kids.values())


def test_the_validation_loss_is_the_mean_of_its_parts_by_timestep(workspace: Workspace, tiny_flow: Path) -> None:
    make_dataset(workspace, train=4, valid=8, name="even")
    told = settings(tiny_flow, steps=1, validation_images=8, data={"name": "even"})
    _, events, run = train(workspace, told, "parts")
    for seen in of(Validated, events):
        assert len(seen.bins) == 4
        assert math.fsum(seen.bins) / 4 == pytest.approx(seen.loss, rel=1e-6)
    assert state_of(run).validations[0].bins == of(Validated, events)[0].bins  # through the journal and back


def test_a_run_says_what_it_takes_before_and_after_its_first_steps(workspace: Workspace, tiny_flow: Path) -> None:
    _, events, _ = train(workspace, settings(tiny_flow, steps=5), "told")
    before, measured = of(Planned, events)
    assert (before.steps, before.pictures, before.effective_batch, before.micro_batch) == (5, 10, 2, 2)
    assert before.trained_parameters < before.all_parameters
    assert measured.source.startswith("measured over 3 steps")
    third = next(place for place, event in enumerate(events) if isinstance(event, StepDone) and event.step == 3)
    assert isinstance(events[third + 1], Planned)
    assert measured.memory_bytes > 2**26  # torch alone takes more


class TestProbe:
    @pytest.fixture(scope="class")
    def probed(self, workspace: Workspace, tiny_flow: Path) -> tuple[Finished, list[Event], Path]:
        told = settings(tiny_flow, {"name": "full"}, steps=2, probe_every=1, preview_steps=1, learning_rate=1e-3)
        return train(workspace, told, "probed")

    def test_the_bases_tiles_are_kept_as_the_first_column(self, probed: tuple[Finished, list[Event], Path]) -> None:
        _, events, run = probed
        shown = [one for one in of(PreviewSaved, events) if one.step == 0]
        assert tuple(one.prompt for one in shown) == NATURAL + REMOTE_SENSING
        recipe = read_recipe(run / shown[0].path)
        assert (recipe["prompt"], recipe["step"], recipe["synthetic"]) == (NATURAL[0], 0, True)

    def test_what_moves_away_from_the_base_is_measured(self, probed: tuple[Finished, list[Event], Path]) -> None:
        _, events, _ = probed
        figures = {(one.name, one.step): one for one in of(MetricMeasured, events)}
        names = ("forgetting", "change", "drift", "diversity")
        assert set(figures) == {(name, step) for name in names for step in (1, 2)}
        assert 0 < figures["drift", 1].value < figures["drift", 2].value
        assert 0 < figures["forgetting", 1].value < figures["forgetting", 2].value
        assert 1 <= figures["diversity", 2].value <= 16
        assert figures["forgetting", 1].weights_sha256

    def test_a_run_that_learns_nothing_forgets_nothing(self, workspace: Workspace, tiny_flow: Path) -> None:
        told = settings(tiny_flow, steps=1, probe_every=1, preview_steps=1, learning_rate=1e-12)
        _, events, _ = train(workspace, told, "still")
        figures = {one.name: one.value for one in of(MetricMeasured, events)}
        assert figures["forgetting"] < 1e-3
        assert figures["drift"] < 1e-6

    def test_a_probed_run_learns_the_same(
        self, workspace: Workspace, tiny_flow: Path, probed: tuple[Finished, list[Event], Path]
    ) -> None:
        told = settings(tiny_flow, {"name": "full"}, steps=2, preview_steps=1, learning_rate=1e-3)
        _, _, plain = train(workspace, told, "not-probed")
        assert weights_of(plain) == weights_of(probed[2])
