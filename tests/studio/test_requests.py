from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from studio import config, jobs, requests, sources
from studio.control import Control
from studio.errors import UsageError
from studio.events import Finished, Started
from studio.generation.class_plan import Plan, plan_classes
from studio.jobs import Done, execute
from studio.journal import Journal
from studio.settings import (
    DownstreamSettings,
    EvaluateSettings,
    ExportSettings,
    GenerateSettings,
    GridSettings,
    ImportSettings,
    TrainSettings,
)
from studio.sources import PromptSource
from studio.taking_back import take_back
from studio.unfinished import is_same_model
from studio.workspace import Workspace, make_workspace
from tests.studio.listing import listing


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a data set of fourteen pictures, where all other work is done as soon as it begins."""
    workspace = make_workspace(tmp_path / "ws")
    job = requests.import_job(workspace, ImportSettings(source="demo:14", name="demo", hold_out=4))
    execute(job, Control())
    for kind in ("train", "generate"):
        monkeypatch.setitem(jobs.KINDS, kind, _done)
    return workspace


def _done(context: jobs.Context) -> Done:
    context.emit(Started("train", context.device))
    return Done({})


def tiles(workspace: Workspace, count: int = 2) -> list[requests.PlannedTile]:
    return sources.tiles_of(workspace, PromptSource(prompt="a river"), count, 42)


def training(**settings: object) -> TrainSettings:
    return TrainSettings.model_validate({"data": {"name": "demo"}, **settings})


# Jobs and their folders


def test_a_job_is_what_its_folder_says(workspace: Workspace) -> None:
    made = [
        requests.train_job(workspace, training(seed=7), "mine"),
        requests.generate_job(workspace, GenerateSettings(batch=3), tiles(workspace), "tiles"),
        requests.grid_job(workspace, GridSettings(x="steps=1,2", prompt="a river"), "grid"),
        requests.export_job(workspace, ExportSettings(name="demo", to="gallery", target=str(workspace.root / "out"))),
        requests.evaluate_job(workspace, EvaluateSettings(generated="tiles", real="demo")),
        requests.downstream_job(workspace, DownstreamSettings(synthetic="tiles", real="demo")),
    ]
    for job in made:
        assert requests.job_of(workspace, job.folder) == job
    assert {job.kind for job in made} == set(requests.SETTINGS) - {"import"}


def test_a_folder_that_does_not_say_its_kind_is_told(workspace: Workspace) -> None:
    job = requests.train_job(workspace, training(), "mine")
    job.folder.config_path.write_text('kind = "dance"\n')
    with pytest.raises(UsageError, match="does not say what kind of work"):
        requests.job_of(workspace, job.folder)


def test_unfinished_work_of_a_name_goes_on_where_it_is_asked_for_as_it_was(workspace: Workspace) -> None:
    first = requests.train_job(workspace, training(seed=7), "mine")
    assert requests.train_job(workspace, training(seed=7, description="said better"), "mine") == first
    batch = requests.generate_job(workspace, GenerateSettings(batch=3), tiles(workspace), "tiles")
    begin(batch)
    assert requests.generate_job(workspace, GenerateSettings(batch=3), tiles(workspace), "tiles") == batch
    grid = requests.grid_job(workspace, GridSettings(x="steps=1,2", prompt="a river"), "grid")
    begin(grid)
    assert requests.grid_job(workspace, GridSettings(x="steps=1,2", prompt="a river"), "grid") == grid


def test_a_run_that_is_asked_for_otherwise_is_refused_and_says_what_differs(workspace: Workspace) -> None:
    requests.train_job(workspace, training(seed=7), "mine")
    before = listing(workspace.root)
    other = training(seed=8, optimiser={"steps": 9})
    told = r"other settings: seed \(7, now 8\), optimiser.steps \(1000, now 9\).*resume mine"
    with pytest.raises(UsageError, match=told):
        requests.train_job(workspace, other, "mine")
    assert listing(workspace.root) == before


def test_a_batch_that_is_asked_for_otherwise_is_refused_once_it_has_tiles(workspace: Workspace) -> None:
    for job in (
        requests.generate_job(workspace, GenerateSettings(), tiles(workspace), "tiles"),
        requests.grid_job(workspace, GridSettings(x="steps=1,2", prompt="a river"), "grid"),
    ):
        begin(job)
    before = listing(workspace.root)
    desert = sources.tiles_of(workspace, PromptSource(prompt="a desert"), 3, 42)
    settings = GenerateSettings(steps=9, sampler="euler")
    with pytest.raises(UsageError, match=r"prompt \(a river, now a desert\), count \(2, now 3\), sampler \(unset"):
        requests.generate_job(workspace, settings, desert, "tiles")
    with pytest.raises(UsageError, match=r"other settings: x \(steps=1,2, now steps=1,3\)"):
        requests.grid_job(workspace, GridSettings(x="steps=1,3", prompt="a river"), "grid")
    assert listing(workspace.root) == before


def test_a_batch_without_a_tile_takes_other_settings(workspace: Workspace) -> None:
    made = [
        requests.generate_job(workspace, GenerateSettings(steps=60), tiles(workspace), "tiles"),
        requests.grid_job(workspace, GridSettings(x="steps=1,2", prompt="a river"), "grid"),
    ]
    for job in made:
        journal = Journal(job.folder.journal_path)
        journal.write(Finished("failed", "No.", exit_code=1))
        journal.close()
        (job.folder.path / "together.json").write_text("{}")
    again = requests.generate_job(workspace, GenerateSettings(steps=2), tiles(workspace, 5), "tiles")
    assert requests.job_of(workspace, again.folder).settings == GenerateSettings(steps=2, count=5)
    assert len((again.folder.path / "plan.jsonl").read_text().splitlines()) == 5
    assert not again.folder.journal_path.exists()
    other = GridSettings(x="steps=1,3", prompt="a river")
    assert requests.grid_job(workspace, other, "grid").settings == other


def test_a_batch_that_somebody_makes_is_not_begun_anew(workspace: Workspace) -> None:
    job = requests.generate_job(workspace, GenerateSettings(), tiles(workspace), "tiles")
    held = Journal(job.folder.journal_path)
    with pytest.raises(UsageError, match="is being worked on"):
        requests.generate_job(workspace, GenerateSettings(steps=9), tiles(workspace), "tiles")
    held.close()


def test_a_batch_that_began_from_a_picture_knows_it_again(workspace: Workspace, tmp_path: Path) -> None:
    for name, colour in (("one.png", "red"), ("other.png", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / name)
    settings = GenerateSettings(init=str(tmp_path / "one.png"))
    batch = requests.generate_job(workspace, settings, tiles(workspace), "tiles")
    begin(batch)
    assert requests.generate_job(workspace, settings, tiles(workspace), "tiles") == batch
    with pytest.raises(UsageError, match="init "):
        requests.generate_job(workspace, GenerateSettings(init=str(tmp_path / "other.png")), tiles(workspace), "tiles")


def test_a_batch_of_another_class_plan_is_refused(workspace: Workspace) -> None:
    [plan, other] = [
        Plan.model_validate({"classes": [{"label": "river", "count": 2, "prompts": [text]}]}) for text in ("a", "b")
    ]
    ask = partial(requests.generate_job, workspace, GenerateSettings(), name="tiles")
    batch = ask(tiles=plan_classes(plan, 42), plan=plan)
    begin(batch)
    assert ask(tiles=plan_classes(plan, 42), plan=plan) == batch
    with pytest.raises(UsageError, match="other settings: the class plan"):
        ask(tiles=plan_classes(other, 42), plan=other)


@pytest.mark.parametrize(
    ("asked", "now", "begun", "is_same"),
    [
        ("starter", "starter", "starter", True),
        ("mine", "0001-mine@200", "0001-mine@100", True),
        ("mine@200", "0001-mine@200", "0001-mine@100", False),
        ("mine", "0001-mine@200", "0002-other@200", False),
        ("mine:0.8", "0001-mine@200:0.8", "0001-mine@100:0.8", True),
        ("mine:0.7", "0001-mine@200:0.7", "0001-mine@100:0.8", False),
    ],
)
def test_a_run_that_has_gone_on_is_the_same_model_unless_its_step_was_named(
    asked: str, now: str, begun: str, is_same: bool
) -> None:
    assert is_same_model(asked, now, begun) is is_same


def begin(job: jobs.Job) -> None:
    """Leave a batch as a kill after its first tile would."""
    (job.folder.path / "tiles").mkdir()
    (job.folder.path / "tiles" / "000001.png").write_bytes(b"x")


def test_a_name_is_taken_once_its_work_is_done_whatever_the_work(workspace: Workspace) -> None:
    execute(requests.train_job(workspace, training(), "mine"), Control())
    execute(requests.generate_job(workspace, GenerateSettings(), tiles(workspace), "tiles"), Control())
    before = listing(workspace.root)
    for name in ("mine", "tiles", "demo"):
        with pytest.raises(UsageError, match=f"The name {name} is taken"):
            requests.train_job(workspace, training(), name)
        with pytest.raises(UsageError, match=f"The name {name} is taken"):
            requests.generate_job(workspace, GenerateSettings(), tiles(workspace), name)
        with pytest.raises(UsageError, match=f"The name {name} is taken"):
            requests.import_job(workspace, ImportSettings(source="demo:10", name=name))
    with pytest.raises(UsageError, match="completed all its steps"):
        requests.resume_job(workspace, "mine")
    assert listing(workspace.root) == before


def test_a_folder_whose_making_was_killed_is_made_again(workspace: Workspace) -> None:
    run = requests.train_job(workspace, training(), "mine")
    run.folder.config_path.unlink()
    again = requests.train_job(workspace, training(seed=8), "mine")
    assert again.folder == run.folder
    assert again.settings == training(seed=8)
    batch = requests.generate_job(workspace, GenerateSettings(), tiles(workspace), "tiles")
    batch.folder.config_path.unlink()
    assert requests.generate_job(workspace, GenerateSettings(), tiles(workspace, 5), "tiles").settings.count == 5  # type: ignore[attr-defined]


def test_nothing_is_touched_where_somebody_works(workspace: Workspace) -> None:
    run = requests.train_job(workspace, training(), "mine")
    folder = workspace.datasets / "other"
    held = [Journal(run.folder.journal_path), Journal(folder / "events.jsonl")]
    before = listing(workspace.root)
    with pytest.raises(UsageError, match="is being worked on"):
        requests.resume_job(workspace, "mine")
    with pytest.raises(UsageError, match="is being worked on"):
        requests.import_job(workspace, ImportSettings(source="demo:10", name="other"))
    assert listing(workspace.root) == before
    for journal in held:
        journal.close()


def test_names_are_given_where_none_is_asked_for(workspace: Workspace) -> None:
    assert requests.train_job(workspace, training()).folder.path.name == "0001-lora"
    assert requests.train_job(workspace, training()).folder.path.name == "0002-lora-2"
    assert requests.generate_job(workspace, GenerateSettings(), tiles(workspace)).folder.path.name == "starter-tiles"
    assert requests.free_run_name(workspace, "dir/My Recipe.toml") == "my-recipe"


def test_a_job_that_could_not_begin_is_taken_back_but_never_one_that_made_something(workspace: Workspace) -> None:
    job = requests.generate_job(workspace, GenerateSettings(), tiles(workspace), "tiles")
    execute(job, Control())
    (job.folder.path / "tiles").mkdir()
    (job.folder.path / "tiles" / "000001.png").write_bytes(b"x")
    take_back(job)
    assert job.folder.path.is_dir()
    (job.folder.path / "tiles" / "000001.png").unlink()
    take_back(job)
    assert not job.folder.path.exists()


# What is wrong is told before anything is made


def test_wrong_requests_leave_the_workspace_as_it_was(workspace: Workspace) -> None:
    before = listing(workspace.root)
    wrong = [
        lambda: requests.import_job(workspace, ImportSettings(source="demo:10", name="../x")),
        lambda: requests.import_job(workspace, ImportSettings(source="nowhere", name="x")),
        lambda: requests.import_job(workspace, ImportSettings(source="demo:10", name="x", hold_out=10)),
        lambda: requests.train_job(workspace, TrainSettings.model_validate({"data": {"name": "dmo"}}), "x"),
        lambda: requests.train_job(workspace, training(base="stater"), "x"),
        lambda: requests.train_job(workspace, training(data={"name": "demo", "split": "tarin"}), "x"),
        lambda: requests.train_job(workspace, training(data={"name": "demo", "validation_split": "x"}), "x"),
        lambda: requests.train_job(workspace, training(), "a/b"),
        lambda: requests.generate_job(workspace, GenerateSettings(model="stater"), tiles(workspace), "x"),
        lambda: requests.generate_job(workspace, GenerateSettings(), [], "x"),
        lambda: requests.generate_job(workspace, GenerateSettings(seed=2**63 - 1), tiles(workspace), "x"),
        lambda: requests.generate_job(workspace, GenerateSettings(), tiles(workspace), ".."),
        lambda: requests.evaluate_job(workspace, EvaluateSettings(generated="none", real="demo")),
        lambda: requests.downstream_job(workspace, DownstreamSettings(synthetic="none", real="demo")),
        lambda: requests.export_job(workspace, ExportSettings(name="dmo", to="gallery", target="out")),
        lambda: requests.resume_job(workspace, "none"),
    ]
    for ask in wrong:
        with pytest.raises(UsageError):
            ask()
        assert listing(workspace.root) == before


def test_settings_on_disk_say_with_what_they_were_made(workspace: Workspace) -> None:
    job = requests.train_job(workspace, training(), "mine")
    record = config.read_toml(job.folder.config_path)
    assert record["kind"] == "train"
    assert set(record["made_with"]) >= {"rs-studio", "python"}


def test_work_that_failed_goes_on_under_its_name(workspace: Workspace) -> None:
    job = requests.train_job(workspace, training(), "mine")
    journal = Journal(job.folder.journal_path)
    journal.write(Finished("failed", "No."))
    journal.close()
    assert requests.resume_job(workspace, "1") == job
