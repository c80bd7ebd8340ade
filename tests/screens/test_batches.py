"""Class plans and grids from the keyboard, and what came of them; without torch."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from textual.widgets import Input

from screens import wording
from screens.batch import BatchScreen
from screens.confirm import ConfirmScreen
from screens.form_screen import FormScreen
from screens.picture import PictureScreen
from screens.plans import PlanScreen
from screens.shell import StudioApp
from screens.widgets.browser import Browser
from screens.widgets.picture_grid import PictureGrid
from screens.widgets.words import Words
from studio import config, jobs
from studio.context import Context, Done
from studio.events import Finished, ImageSaved, Phase, Refused, Started
from studio.workspace import TEMPLATE, Workspace
from tests.fakes import fake_generation
from tests.screens.conftest import SIZES, looked, until
from tests.screens.journals import Record, write_journal, write_tile

RECIPE = {"prompt": "a river", "seed": 42, "model": "starter", "steps": 20, "sampler": "unipc"}


def with_plan_batch(workspace: Workspace) -> Path:
    """Two tiles kept, and one put aside by the filters."""
    folder = workspace.batches / "land"
    events: list[Any] = [Started("generate", "cpu")]
    for index in range(2):
        name = f"tiles/{index + 1:06d}.png"
        events.append(ImageSaved(index, name, index, write_tile(folder / name, RECIPE), "a river"))
    write_tile(folder / "refused" / "000003.png", {**RECIPE, "refused": "flat: all of one colour"})
    events.append(Refused("refused/000003.png", "flat: all of one colour"))
    classes = [{"label": "river", "name": "River", "wanted": 3, "kept": 2, "missing": 1, "attempts": 3,
                "refused": {"flat": 1}}]  # fmt: skip
    (folder / "class-plan.json").write_text(
        json.dumps({"classes": classes, "alike": [], "network": "scenes, sha256 0"})
    )
    config.save(folder / "config.toml", Record(kind="generate", settings={"model": "starter", "sampler": "unipc"}))
    write_journal(folder, [*events, Finished("completed")])
    return folder


def fake_grid(context: Context) -> Done:
    """Lays out an empty sheet."""
    context.emit(Started("grid", context.device))
    Image.new("RGB", (40, 20)).save(context.folder.path / "grid.png")
    return Done({"saved": 0})


def said(app: StudioApp, selector: str) -> str:
    return app.screen.query_one(selector, Words).said


@pytest.mark.parametrize("size", SIZES)
async def test_a_class_plan_is_chosen_and_begun(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setitem(jobs.KINDS, "generate", fake_generation)
    app.workspace.plans.mkdir()
    shutil.copy(TEMPLATE / "plans" / "land-cover-388.toml", app.workspace.plans)
    (app.workspace.plans / "torn.toml").write_text("classes = 3\n")
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("4", "p")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await until(pilot, lambda: "Bare Land" in said(app, "#about"))
        assert "Known problems: Crop Land and Cultivated Vegetation overlap" in said(app, "#about")
        await pilot.press("down")
        await until(pilot, lambda: "torn.toml" in said(app, "#about"))
        await pilot.press("enter")
        assert isinstance(app.screen, PlanScreen)
        await pilot.press("up", "enter")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "388 tiles" in str(app.screen.query_one(".dialog").border_title)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        assert list(app.workspace.batches.iterdir()) == []
        await pilot.press("enter", "y")
        await until(pilot, lambda: [job.path.name for job in app.jobs("batches")] == ["land-cover-388"])
        await until(pilot, lambda: app.jobs("batches")[0].state.status == "completed")
    folder = app.workspace.batches / "land-cover-388"
    assert config.read_toml(folder / "config.toml")["settings"]["count"] == 388
    assert (folder / "class-plan.toml").is_file()


async def test_a_grid_is_begun_from_the_prompt_and_its_sheet_is_shown(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jobs.KINDS, "grid", fake_grid)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", *"a river", "escape", "g")
        await until(pilot, lambda: isinstance(app.screen, FormScreen))
        fields = list(app.screen.query(Input))
        assert [one.value for one in fields] == ["steps=10,20,50", "guidance=2,5,7.5", "", "a river", ""]
        await pilot.press("down", "down")
        fields[1].value = "steps=10,20"
        await pilot.pause()
        await pilot.press("ctrl+j")
        await until(pilot, lambda: not isinstance(app.screen, FormScreen))
        results = app.screen.query_one("#results", PictureGrid)
        await until(pilot, lambda: [tile.path.name for tile in results.tiles] == ["grid.png"])
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, BatchScreen))
        assert "columns   seed 42, 43, 44, 45" in said(app, "#said")
        assert "rows      steps 10, 20" in said(app, "#said")
        assert [tile.path.name for tile in app.screen.query_one("#sheet", PictureGrid).tiles] == ["grid.png"]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))


async def test_an_axis_that_is_not_known_is_told_in_the_form(app: StudioApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", *"a river", "escape", "g")
        await until(pilot, lambda: isinstance(app.screen, FormScreen))
        app.screen.query(Input).first().value = "colour=red,blue"
        await pilot.pause()
        await pilot.press("ctrl+j")
        await until(pilot, lambda: "colour" in said(app, "#faults"))
        assert list(app.workspace.batches.iterdir()) == []


@pytest.mark.parametrize("size", SIZES)
async def test_what_a_plan_refused_is_seen_with_the_reason(app: StudioApp, size: tuple[int, int]) -> None:
    folder = with_plan_batch(app.workspace)
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("5")
        await until(pilot, lambda: len(app.screen.query_one(Browser).all) == 2)
        await until(pilot, lambda: "unipc" in said(app, "#recipe"))
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, BatchScreen))
        assert "1 refused: flat" in said(app, "#said")
        assert "2/3" in said(app, "#said")
        await until(pilot, lambda: said(app, "#why") == "flat: all of one colour")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.current_mode == "gallery" and not isinstance(app.screen, BatchScreen))
    assert (folder / "refused" / "000003.png").is_file()


async def test_a_tiles_recipe_tells_the_settings_that_it_was_made_with_and_no_others(app: StudioApp) -> None:
    folder = app.workspace.batches / "large"
    recipe = {**RECIPE, "seed": 0, "guidance": 0.0, "rescale": 0.7, "seamless": True, "upscale": 1, "window_px": 0,
              "strength": 1.0, "loras": [], "precision": "bf16", "init_sha256": ""}  # fmt: skip
    sha256 = write_tile(folder / "tiles" / "000001.png", recipe)
    saved = ImageSaved(0, "tiles/000001.png", 0, sha256, "a river")
    write_journal(folder, [Started("generate", "cpu"), saved, Finished("completed")])
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("5")
        await until(pilot, lambda: "rescale    0.7" in said(app, "#recipe"))
        words = said(app, "#recipe")
        assert "seamless   yes" in words
        assert "seed       0" in words
        assert "guidance   0" in words
        assert not [name for name in ("upscale", "window", "strength", "loras", "began from") if name in words]


def test_progress_names_the_tile_and_the_step_within_it() -> None:
    assert wording.phase_of(Phase("Generating tiles", 3, 8, 12, 20)) == "Generating tiles 3/8 · step 12/20"
