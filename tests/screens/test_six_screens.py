"""Data, Prompt, Gallery and Evaluate on small real workspaces, without torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import Input, TextArea

from screens import evaluate
from screens.form_screen import FormScreen
from screens.gallery import caption
from screens.picture import CompareScreen, PictureScreen
from screens.shell import StudioApp
from screens.watching import JobWatcher
from screens.widgets.browser import Browser
from screens.widgets.form import Field
from screens.widgets.job_table import JobTable
from screens.widgets.picture_grid import PictureGrid
from screens.widgets.words import Words
from studio import config, jobs
from studio.catalog import Catalog
from studio.catalog import Tile as CatalogTile
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


async def test_a_whole_recipe_is_read_on_a_low_screen(app: StudioApp) -> None:
    with_batch(app.workspace, prompt="a canal through fields " * 12)
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("5")
        await until(pilot, lambda: "seed       42" in app.screen.query_one("#recipe", Words).said)
        facts = app.screen.query_one("#facts")
        await pilot.press("tab")
        await until(pilot, lambda: facts.has_focus and facts.size.height > 10)
        await pilot.press("end")
        await until(pilot, lambda: facts.scroll_offset.y == facts.max_scroll_y > 0)
        await pilot.press("tab")
        await until(pilot, lambda: app.screen.query_one(Browser).has_focus)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        assert "starter · 20 steps · seed 42" in app.screen.query_one("#caption", Words).said


def test_a_caption_tells_a_tile_from_its_neighbours() -> None:
    tile = CatalogTile("batches/land/tiles/000003.png", "land", 2, 7, "", "a satellite image of a river", "", "",
                       favourite=False, rating=0)  # fmt: skip
    assert caption(tile) == "3 river"
    assert caption(replace(tile, label="Bare Land", rating=4)) == "3 4/5 Bare Land"
    assert caption(tile, "seed 42 · steps 10") == "3 seed 42 · steps 10"


@pytest.mark.parametrize("size", SIZES)
async def test_prompts_come_from_a_file_named_in_the_form(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: tuple[int, int]
) -> None:
    monkeypatch.setitem(jobs.KINDS, "generate", fake_generation)
    path = tmp_path / "mine.txt"
    path.write_text("a canal\na harbour\n")
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("4")
        field = app.screen.query_one("#prompts", Input)
        field.value = str(path)
        await until(pilot, lambda: "2 prompts of" in app.screen.query_one("#said", Words).said)
        assert field.region.height == app.screen.query_one("#said").region.height == 1
        assert app.screen.query_one("#said").region.bottom < app.screen.query_one("#prompt").region.bottom
        assert app.screen.query_one("#text").region.height >= 2
        await pilot.press("ctrl+j")
        await until(pilot, lambda: app.jobs("batches") and app.jobs("batches")[0].state.status == "completed")
        planned = (app.workspace.batches / "starter-tiles" / "plan.jsonl").read_text()
        assert planned.count("a canal") == planned.count("a harbour") == 2
        field.value = "nowhere"
        await until(pilot, lambda: app.screen.query_one("#said", Words).said.startswith("!"))


async def test_the_prompt_says_how_many_tiles_it_makes_and_how_long_that_takes(app: StudioApp) -> None:
    folder = with_batch(app.workspace)
    config.save(folder / "config.toml", _record({"kind": "generate", "settings": {"model": "starter"}}))
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("4")
        # Six tiles took seven seconds.
        await until(pilot, lambda: str(app.screen.query_one("#sampling").border_subtitle) == "4 tiles · ≈ 4s")
        steps = next(one for one in app.screen.query(Field) if one.entry.path == ("steps",))
        steps.query_one(Input).value = "7"
        await until(pilot, lambda: str(app.screen.query_one("#sampling").border_subtitle) == "4 tiles")


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
