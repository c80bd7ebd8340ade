"""A few values of a few settings, one run each, compared in one table; and the words that ask for it."""

from pathlib import Path

import pytest

from studio import jobs
from studio.errors import SettingsError, StudioError, UsageError
from studio.runs import state_of
from studio.sources import load_recipe
from studio.sweeps import SweepRecord, open_sweep, plan_sweep, sweep_jobs, sweep_records
from studio.workspace import Workspace
from tests.studio.command_line import Say, speaker
from tests.studio.training_runs import make_dataset, run

RECIPE = """
description = "tiny"
known_problems = "none that matter here"
base = "{base}"
[method]
name = "lora"
rank = 2
[data]
size_px = 32
[optimiser]
steps = 2
batch = 2
precision = "fp32"
[saving]
validation_images = 3
preview_prompts = []
"""


@pytest.fixture
def workspace(made_workspace: Workspace, tiny_flow: Path) -> Workspace:
    make_dataset(made_workspace)
    (made_workspace.recipes / "tiny.toml").write_text(RECIPE.format(base=tiny_flow))
    return made_workspace


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    return speaker(capfd)


def record(workspace: Workspace, *vary: str) -> SweepRecord:
    return SweepRecord(recipe="tiny", settings=load_recipe(workspace, "tiny", "set"), vary=vary)


def test_every_combination_is_a_run_with_the_same_seed(workspace: Workspace) -> None:
    planned = plan_sweep(workspace, record(workspace, "learning_rate=1e-4,1e-2", "method.rank=1,2"))
    assert [(one.run, *one.values.values()) for one in planned.arms] == [
        ("tiny-sweep-1", "1e-4", "1"), ("tiny-sweep-2", "1e-4", "2"),
        ("tiny-sweep-3", "1e-2", "1"), ("tiny-sweep-4", "1e-2", "2"),
    ]  # fmt: skip
    assert {one.settings.seed for one in planned.arms} == {42}
    assert planned.arms[2].settings.optimiser.learning_rate == 1e-2


def test_a_list_is_one_value(workspace: Workspace) -> None:
    planned = plan_sweep(workspace, record(workspace, 'targets=["to_q","to_k"],["to_v"]'))
    assert [one.settings.method.targets for one in planned.arms] == [("to_q", "to_k"), ("to_v",)]  # type: ignore[union-attr]


@pytest.mark.parametrize("vary", ["learning_rate", "learning_rate=", "rank=1,,2", "rank=2,2", "no_such=1,2"])
def test_what_cannot_be_varied_is_told_before_anything_is_made(workspace: Workspace, vary: str) -> None:
    with pytest.raises(UsageError):
        plan_sweep(workspace, record(workspace, vary))
    with pytest.raises(UsageError, match="varied twice"):
        plan_sweep(workspace, record(workspace, "rank=1", "rank=2"))
    with pytest.raises(SettingsError, match="steps"):
        plan_sweep(workspace, record(workspace, "steps=1,0"))
    assert not (workspace.root / "sweeps").exists()


def test_a_sweep_goes_on_where_it_was_left_and_is_compared(workspace: Workspace) -> None:
    told = record(workspace, "learning_rate=1e-9,3e-2")
    jobs = sweep_jobs(workspace, plan_sweep(workspace, told, "rates"), "cpu")
    run(next(jobs))
    assert [path.name for path in sorted(workspace.runs.iterdir())] == ["0001-rates-1"]
    again = plan_sweep(workspace, told, "rates")
    for job in sweep_jobs(workspace, again, "cpu"):
        assert job.folder.name == "rates-2"
        run(job)
    assert list(sweep_jobs(workspace, again, "cpu")) == []
    records = sweep_records(workspace, open_sweep(workspace, "rates"))
    assert [one["best"] for one in records] == sorted(one["best"] for one in records)
    still = next(one for one in records if one["values"] == {"learning_rate": "1e-9"})
    assert (still["status"], still["step"], still["steps"]) == ("completed", 2, 2)
    assert still["first"] == next(one for one in records if one is not still)["first"]  # the same base, looked at alike
    assert still["seconds"] > 0


def test_a_sweep_stays_as_it_was_begun_whatever_becomes_of_its_recipe(workspace: Workspace) -> None:
    told = record(workspace, "rank=1,2")
    next(sweep_jobs(workspace, plan_sweep(workspace, told, "ranks"), "cpu"))
    path = workspace.recipes / "tiny.toml"
    path.write_text(path.read_text().replace("steps = 2", "steps = 9"))
    assert [arm.settings.optimiser.steps for arm in open_sweep(workspace, "ranks").arms] == [2, 2]
    path.unlink()
    assert plan_sweep(workspace, told, "ranks").arms == open_sweep(workspace, "ranks").arms


def test_a_name_belongs_to_one_sweep(workspace: Workspace) -> None:
    next(sweep_jobs(workspace, plan_sweep(workspace, record(workspace, "rank=1,2"), "a"), "cpu"))
    with pytest.raises(UsageError, match="begun with other settings"):
        plan_sweep(workspace, record(workspace, "rank=1,3"), "a")
    with pytest.raises(UsageError, match="no sweep named b"):
        open_sweep(workspace, "b")


def test_the_command_trains_and_compares(workspace: Workspace, say: Say) -> None:
    words = ("sweep", "--recipe", "tiny", "--data", "set", "--vary", "rank=1,2", "--set", "steps=1", "--name", "ranks")
    answer = say(workspace.root, "--json", *words)
    assert answer.code == 0, answer.err
    assert (answer.result["runs"], answer.result["completed"]) == (2, 2)
    assert answer.result["best_run"] in ("0001-ranks-1", "0002-ranks-2")
    assert [one["values"] for one in answer.records if one["type"] == "run" and "values" in one]
    table = say(workspace.root, "sweeps", "ranks")
    assert "ranks-2" in table.out
    assert "validation loss at 0" in table.out
    assert say(workspace.root, "sweeps").out == "ranks\n"
    assert say(workspace.root, "sweep", *words[1:4], "set", "--vary", "steps=0,1").code == 2


def test_a_sweep_in_which_nothing_completed_has_failed(
    workspace: Workspace, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(context: jobs.Context) -> jobs.Done:
        raise StudioError("cpu ran out of memory.")

    monkeypatch.setitem(jobs.KINDS, "train", failing)
    answer = say(
        workspace.root, "--json", "sweep", "--recipe", "tiny", "--data", "set", "--vary", "rank=1,2", "--name", "ranks"
    )
    assert (answer.code, answer.result["runs"], answer.result["completed"]) == (1, 2, 0)
    assert "No run of the sweep completed" in answer.error
    assert say(workspace.root, "--json", "sweeps", "ranks").code == 0


def test_an_estimate_begins_nothing(workspace: Workspace, say: Say) -> None:
    answer = say(workspace.root, "--json", "train", "--recipe", "tiny", "--data", "set", "--estimate")
    assert answer.code == 0
    assert answer.result["steps"] == 2
    assert answer.result["memory_bytes"] > 0
    plan = next(one for one in answer.records if one["type"] == "plan")
    assert isinstance(answer.result["memory_bytes"], int)
    assert isinstance(plan["memory_bytes"], int)
    assert plan["pictures"] == 10
    assert list(workspace.runs.iterdir()) == []
    told = say(workspace.root, "train", "--recipe", "tiny", "--data", "set", "--estimate")
    assert "2 steps of 4" not in told.out
    assert "2 steps of 2 pictures are 0.4 passes over 10" in told.out
    assert "none that matter here" in told.err


def test_checkpoints_are_compared_in_a_table(workspace: Workspace, say: Say) -> None:
    say(workspace.root, "train", "--recipe", "tiny", "--data", "set", "--name", "one")
    say(workspace.root, "control", "one@2", "promote")
    answer = say(workspace.root, "--json", "checkpoints", "one")
    [found] = [one for one in answer.records if one["type"] == "checkpoint"]
    assert (found["checkpoint"], found["best"], found["promoted"]) == ("0001-one@2", True, True)
    assert found["validation_loss"] == state_of(workspace.run("one")).validations[-1].loss
    told = say(workspace.root, "checkpoints", "one").out
    assert "0001-one@2" in told
    assert "best promoted" in told


def test_a_base_is_probed_before_any_training(workspace: Workspace, say: Say, tiny_flow: Path) -> None:
    words = ("probe", tiny_flow, "--data", "set", "--count", "1", "--as", "before")
    answer = say(workspace.root, "--json", *words)
    assert answer.code == 0, answer.err
    tiles = [one for one in answer.records if one["type"] == "tile"]
    assert answer.result["saved"] == len(tiles) == 8 + 6  # photographs, remote sensing, and the classes of the set
    assert "a photo of a cat sleeping on a sofa" in [tile["prompt"] for tile in tiles]
    assert "a satellite image of beach" in [tile["prompt"] for tile in tiles]
    assert [tile["seed"] for tile in tiles] == list(range(42, 56))
