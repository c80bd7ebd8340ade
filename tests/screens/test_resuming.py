"""Batches that stopped: what is told of them, how they go on, and what is seen of them meanwhile; without torch."""

import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image

from screens import batch_facts, wording
from screens.batch import BatchScreen
from screens.picture import PictureScreen
from screens.shell import StudioApp
from screens.widgets.browser import Browser
from screens.widgets.job_table import JobTable
from screens.widgets.picture_grid import PictureGrid
from screens.widgets.words import Words
from studio import jobs, requests, sources
from studio.context import Context, Done
from studio.events import Finished, ImageSaved, Phase, Refused, Started
from studio.runs import JobFolder, RunState, state_of
from studio.settings import GenerateSettings
from studio.workspace import TEMPLATE, Workspace
from tests.fakes import fake_generation
from tests.screens.conftest import SIZES, looked, until
from tests.screens.journals import write_journal, write_tile
from tests.screens.test_six_screens import with_batch


class FakeMaking:
    """Makes the tiles that are missing; holds at one until let go, and stops there when asked."""

    def __init__(self, hold_at: int = 2) -> None:
        self.hold_at, self.let_go = hold_at, threading.Event()

    def __call__(self, context: Context) -> Done:
        count = int(context.settings.count)  # type: ignore[attr-defined]
        context.emit(Started("generate", context.device))
        tiles = context.folder.path / "tiles"
        tiles.mkdir(exist_ok=True)
        for index in range(count):
            name = f"tiles/{index + 1:06d}.png"
            if (context.folder.path / name).is_file():
                continue
            context.emit(Phase("Generating tiles", index, count))
            while index == self.hold_at and not self.let_go.wait(0.01):
                if context.should_stop():
                    return Done({"saved": index}, "stopped")
            Image.new("RGB", (8, 8), (index, 80, 40)).save(context.folder.path / name)
            context.emit(ImageSaved(index, name, 42 + index, "", "a river"))
        return Done({"saved": count})


def plan_job(workspace: Workspace) -> jobs.Job:
    """A batch of the shipped plan of 388 tiles, without a journal yet."""
    workspace.plans.mkdir()
    shutil.copy(TEMPLATE / "plans" / "land-cover-388.toml", workspace.plans)
    source = sources.PromptSource(plan="land-cover-388")
    tiles, plan = sources.tiles_of(workspace, source, 0, 42), sources.plan_of(workspace, source)
    return requests.generate_job(workspace, GenerateSettings(), tiles, "land", plan=plan)


def stopped_plan(workspace: Workspace) -> Path:
    """Of the first class two kept and one refused, then a stop."""
    folder = plan_job(workspace).folder.path
    events: list[object] = [Started("generate", "cpu")]
    for index in range(2):
        name = f"tiles/{index + 1:06d}.png"
        events.append(ImageSaved(index, name, index, write_tile(folder / name, {}), "an airport"))
    write_tile(folder / "refused" / "000003.png", {"refused": "flat: all of one colour"})
    events.append(Refused("refused/000003.png", "flat: all of one colour"))
    write_journal(folder, [*events, Finished("stopped")])
    return folder


def said(app: StudioApp, selector: str) -> str:
    return app.screen.query_one(selector, Words).said


def told(app: StudioApp) -> list[str]:
    return [one.message for one in app._notifications]


@pytest.mark.parametrize("size", SIZES)
async def test_a_stopped_batch_goes_on_from_the_prompt_screen_as_its_end_said(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    making = FakeMaking()
    monkeypatch.setitem(jobs.KINDS, "generate", making)
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", *"a river", "ctrl+j", "escape")
        await until(pilot, lambda: app.live_jobs() and len(app.live_jobs()[0].state.images) == 2)
        assert "resume" not in shown_actions(app)
        await pilot.press("x")
        words = "Generation starter-tiles stopped with 2 of 4 tiles. r on Prompt or in its view resumes it."
        await until(pilot, lambda: words in told(app))
        await until(pilot, lambda: "resume" in shown_actions(app))
        results = app.screen.query_one("#results", PictureGrid)
        assert str(results.border_subtitle) == "2 of 4 tiles · stopped: r resumes"
        making.let_go.set()
        await pilot.press("r")
        await until(pilot, lambda: "Generation starter-tiles is done." in told(app))
        assert "resume" not in shown_actions(app)
    assert [path.name for path in app.workspace.batches.iterdir()] == ["starter-tiles"]
    assert len(state_of(app.workspace.batches / "starter-tiles").images) == 4


def shown_actions(app: StudioApp) -> set[str]:
    """What the line of keys offers."""
    bindings = app.screen.active_bindings.values()
    return {one.binding.action for one in bindings if one.enabled}


@pytest.mark.parametrize("size", SIZES)
async def test_a_stopped_plan_shows_its_classes_so_far_and_goes_on_in_its_view(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    folder = stopped_plan(app.workspace)
    monkeypatch.setitem(jobs.KINDS, "generate", lambda context: Done({"saved": 0}))
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("4", "v")
        await until(pilot, lambda: isinstance(app.screen, BatchScreen))
        assert "state     stopped: r resumes" in said(app, "#said")
        assert "tiles     2 of 388" in said(app, "#said")
        first = next(line for line in said(app, "#said").splitlines() if "/" in line)
        assert first.split()[-2].startswith("2/")
        assert first.split()[-1] == "3"
        assert "1 refused: flat" in said(app, "#said")
        await pilot.press("r")
        await until(pilot, lambda: state_of(folder).status == "completed")
        await until(pilot, lambda: "resume" not in shown_actions(app))


def test_a_batch_that_is_whole_is_not_resumed(workspace: Workspace) -> None:
    folder = with_batch(workspace)
    with pytest.raises(Exception, match="has all its tiles"):
        requests.resume_batch(workspace, folder.name)


@pytest.mark.parametrize("size", SIZES)
async def test_a_batch_without_refused_tiles_shows_its_own(app: StudioApp, size: tuple[int, int]) -> None:
    with_batch(app.workspace)
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("4", "v")
        await until(pilot, lambda: isinstance(app.screen, BatchScreen))
        await until(pilot, lambda: len(app.screen.query_one(Browser).all) == 6)
        assert str(app.screen.query_one("#right").border_title) == "Tiles"
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))


async def test_full_size_is_offered_once_there_is_a_tile(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    making = FakeMaking(hold_at=0)
    monkeypatch.setitem(jobs.KINDS, "generate", making)
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", *"a river", "ctrl+j", "escape")
        await until(pilot, app.live_jobs)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, BatchScreen))
        assert not shown_actions(app) & {"open", "full_size"}
        await pilot.press("enter")
        assert isinstance(app.screen, BatchScreen)
        making.let_go.set()
        await until(pilot, lambda: len(app.screen.query_one(Browser).all) == 4)
        await until(pilot, lambda: "open" in shown_actions(app))


async def test_the_history_points_at_the_batch_that_is_shown(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "generate", fake_generation)
    with_batch(app.workspace, "older")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", *"a river", "ctrl+j")
        table = app.screen.query_one("#batches", JobTable)
        await until(pilot, lambda: table.row_count == 2 and table.row_in_view == "starter-tiles")
        table.focus()
        await pilot.press("down")
        await until(pilot, lambda: "older" in str(app.screen.query_one("#results").border_title))
        await pilot.press("ctrl+j")
        await until(pilot, lambda: table.row_count == 3 and table.row_in_view == "starter-tiles-2")
        assert "starter-tiles-2" in str(app.screen.query_one("#results").border_title)


def test_tiles_of_a_grid_are_told_apart_by_what_varies(workspace: Workspace) -> None:
    from studio.settings import GridSettings

    settings = GridSettings(x="steps=10,20", y="prompt={a satellite image of a river|a forest}")
    folder = requests.grid_job(workspace, settings, "sheet").folder.path
    assert batch_facts.words_of(folder) == {
        0: "steps 10 · river", 1: "steps 20 · river", 2: "steps 10 · a forest", 3: "steps 20 · a forest",
    }  # fmt: skip


def test_what_ended_early_is_told_by_what_it_makes() -> None:
    folder = JobFolder(Path("0001-mine"))
    assert "step 7. r" in wording.end_of(RunState(folder, kind="train", step=7), 0)
    assert wording.end_of(RunState(folder, kind="evaluate"), 0) == "stopped before it was done."
