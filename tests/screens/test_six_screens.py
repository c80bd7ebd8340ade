"""Data, Prompt, Gallery and Evaluate on small real workspaces, without torch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import Input, TextArea

from screens import evaluate
from screens.form_screen import FormScreen
from screens.picture import CompareScreen, PictureScreen
from screens.shell import StudioApp
from screens.watching import JobWatcher
from screens.widgets.browser import Browser
from screens.widgets.job_table import JobTable
from screens.widgets.picture_grid import PictureGrid
from screens.widgets.words import Words
from studio import config, jobs
from studio.catalog import Catalog
from studio.events import Finished, ImageSaved, MetricMeasured, Started
from studio.images import save_tile
from studio.settings import EvaluateSettings
from studio.workspace import Workspace
from tests.fakes import fake_generation
from tests.hostile import TERMINAL
from tests.screens.conftest import SIZES, looked, until
from tests.screens.journals import with_demo, write_journal


def with_batch(workspace: Workspace, name: str = "river", tiles: int = 6, prompt: str = "a river") -> Path:
    folder = workspace.batches / name
    (folder / "tiles").mkdir(parents=True)
    events: list[Any] = [Started("generate", "cpu")]
    for index in range(tiles):
        pixels = np.full((8, 8, 3), index * 20, np.uint8)
        recipe = {"prompt": prompt, "negative": "clouds", "seed": 42 + index, "model": "starter", "steps": 20}
        sha256 = save_tile(folder / "tiles" / f"{index:06d}.png", pixels, recipe)
        events.append(ImageSaved(index, f"tiles/{index:06d}.png", 42 + index, sha256, prompt))
    write_journal(folder, [*events, Finished("completed")])
    return folder


@pytest.mark.parametrize("size", SIZES)
async def test_data_shows_pictures_with_captions_and_filters_them(app: StudioApp, size: tuple[int, int]) -> None:
    with_demo(app.workspace)
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("2")
        await until(pilot, lambda: len(app.screen.query_one(Browser).all) == 14)
        assert "Caption" in app.screen.query_one("#words", Words).said
        await pilot.press("slash", *"label:water")
        await until(pilot, lambda: len(app.screen.query_one(Browser).all) == 2)
        await pilot.press("enter", "right", "enter")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: len(app.screen.query_one(Browser).all) == 14)


async def test_an_import_form_refuses_what_is_not_there_and_says_so(app: StudioApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("2", "i")
        await until(pilot, lambda: isinstance(app.screen, FormScreen))
        await pilot.press("ctrl+j")
        await until(pilot, lambda: len(app.screen.query(".-wrong")) == 2)
        fields = list(app.screen.query(Input))
        fields[0].value, fields[1].value = "/no/such/folder", "mine"
        await pilot.pause()
        await pilot.press("ctrl+j")
        await until(pilot, lambda: "/no/such/folder" in app.screen.query_one("#faults", Words).said)
        assert list(app.workspace.datasets.iterdir()) == []


async def test_prompts_are_made_into_images_from_the_keyboard(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "generate", fake_generation)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", *"a {wide|dry} river")
        await until(pilot, lambda: "2 prompts" in app.screen.query_one("#said", Words).said)
        await pilot.press("ctrl+j")
        await until(pilot, lambda: len(app.screen.query_one("#results", PictureGrid).tiles) == 4)
        planned = (app.workspace.batches / "starter-tiles" / "plan.jsonl").read_text()
        assert "a wide river" in planned
        assert "a dry river" in planned


async def test_a_suggestion_is_taken_with_one_key(app: StudioApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("4")
        await until(pilot, lambda: app.screen.query_one("#suggested", JobTable).row_count)
        await pilot.press("ctrl+y")
        assert app.screen.query_one("#text", TextArea).text


@pytest.mark.parametrize("size", SIZES)
async def test_gallery_marks_compares_rates_and_keeps_favourites(app: StudioApp, size: tuple[int, int]) -> None:
    with_batch(app.workspace)
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("5")
        await until(pilot, lambda: len(app.screen.query_one(Browser).all) == 6)
        await until(pilot, lambda: "a river" in app.screen.query_one("#recipe", Words).said)
        await pilot.press("space", "space", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("escape")
        await pilot.pause()
        await pilot.press("f")
        await until(pilot, lambda: Catalog(app.workspace).favourites())
        await pilot.press("R", "4")
        await until(pilot, lambda: list(Catalog(app.workspace).ratings().values()) == [4])
        assert app.current_mode == "gallery"


async def test_a_tiles_recipe_is_reused_on_the_prompt_screen(app: StudioApp) -> None:
    with_batch(app.workspace, prompt="a canal through fields")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("5")
        await until(pilot, lambda: app.screen.query_one(Browser).all)
        await pilot.press("r")
        await until(pilot, lambda: app.current_mode == "prompt")
        await until(pilot, lambda: app.screen.query_one("#text", TextArea).text == "a canal through fields")


def test_figures_of_different_protocols_get_different_letters(workspace: Workspace) -> None:
    for number, split in enumerate(("aa", "aa", "bb"), 1):
        metric = MetricMeasured("frechet_distance", number, 10, 10, "starter-encoder", "cc" * 32, split * 32, 1.0)
        folder = workspace.evaluations / f"{number:04d}-river"
        write_journal(folder, [Started("evaluate", "cpu"), metric, Finished("completed")])
    watcher = JobWatcher(workspace, lambda news: None)
    watcher.look(scan=True)
    found = sorted(watcher.jobs.values(), key=lambda job: job.path.name)
    protocols = evaluate.protocols_of(found)
    assert [evaluate.letter(job, protocols) for job in found] == ["A", "A", "B"]


async def test_evaluate_shows_figures_with_what_they_were_measured_with(app: StudioApp) -> None:
    with_demo(app.workspace)
    with_batch(app.workspace)
    folder = app.workspace.evaluations / "0001-river"
    metric = MetricMeasured("frechet_distance", 12.5, 4, 6, "starter-encoder", "cc" * 32, "aa" * 32, 3.25)
    write_journal(folder, [Started("evaluate", "cpu"), metric, Finished("completed")])
    record = {"kind": "evaluate", "settings": EvaluateSettings(generated="river", real="land-cover").model_dump()}
    config.save(folder / "config.toml", _record(record))
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("6")
        await until(pilot, lambda: "12.5" in app.screen.query_one("#text", Words).said)
        assert "real against real at the same count 3.25" in app.screen.query_one("#text", Words).said
        assert "starter-encoder" in app.screen.query_one("#with", Words).said
        await until(pilot, lambda: len(app.screen.query_one("#pair", PictureGrid).tiles) == 10)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, FormScreen))


def _record(values: dict[str, Any]) -> Any:
    class Record(config.Model):
        kind: str
        settings: dict[str, Any]

    return Record(**{**values, "settings": {key: one for key, one in values["settings"].items() if one is not None}})


@pytest.mark.parametrize("mode", ["1", "4", "5"])
async def test_hostile_text_reaches_no_screen_as_anything_but_text(app: StudioApp, mode: str) -> None:
    for place, text in enumerate(("[/bold]", "[link=http://x", *TERMINAL)):
        with_batch(app.workspace, f"b{place}", tiles=1, prompt=text)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press(mode)
        await pilot.pause()
        if mode == "5":
            await until(pilot, lambda: app.screen.query_one(Browser).all)
            for _ in range(8):
                await pilot.press("right")
        await pilot.pause()
        drawn = "".join(strip.text for strip in app.screen._compositor.render_strips())
        assert not [sign for sign in drawn if (ord(sign) < 32 and sign != "\n") or 0x7F <= ord(sign) < 0xA0]
