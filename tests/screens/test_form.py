from typing import Any

import pytest
from textual.app import App
from textual.widgets import Input

from screens.widgets.form import Field, Form, entries_of
from studio.settings import GenerateSettings, ImportSettings, TrainSettings

VALUES: dict[str, Any] = TrainSettings().model_dump(mode="json")


class FormApp(App[None]):
    def compose(self) -> Any:
        yield Form(TrainSettings, VALUES)


def field(app: App[None], path: str) -> Field:
    return next(one for one in app.query(Field) if ".".join(one.entry.path) == path)


def write(app: App[None], path: str, text: str) -> None:
    field(app, path).query_one(Input).value = text


async def test_every_wrong_field_is_marked_at_once() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)):
        write(app, "optimiser.batch", "0")
        write(app, "optimiser.precision", "bf17")
        write(app, "method.rank", "many")
        write(app, "seed", "-1")
        assert app.query_one(Form).check() is None
        wrong = {".".join(one.entry.path) for one in app.query(Field) if one.has_class("-wrong")}
        assert wrong == {"optimiser.batch", "optimiser.precision", "method.rank", "seed"}
        write(app, "optimiser.batch", "2")
        write(app, "optimiser.precision", "fp32")
        write(app, "method.rank", "8")
        write(app, "seed", "7")
        settings = app.query_one(Form).check()
        assert isinstance(settings, TrainSettings)
        assert (settings.optimiser.batch, settings.seed, settings.method.rank) == (2, 7, 8)  # type: ignore[union-attr]
        assert not app.query(".-wrong")


async def test_an_untouched_form_gives_back_the_settings_it_was_filled_with() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)):
        assert app.query_one(Form).check() == TrainSettings()


async def test_another_method_has_other_fields() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)) as pilot:
        assert field(app, "method.rank")
        field(app, "method.name").query_one(Input).focus()
        write(app, "method.name", "full")
        await pilot.press("tab")
        await pilot.pause()
        paths = {".".join(one.entry.path) for one in app.query(Field)}
        assert "method.rank" not in paths
        assert field(app, "data.name").has_focus_within  # the next that there is
        settings = app.query_one(Form).check()
        assert isinstance(settings, TrainSettings)
        assert settings.method.name == "full"


async def test_up_and_down_go_through_the_words_that_are_allowed() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)) as pilot:
        place = field(app, "optimiser.schedule").query_one(Input)
        place.focus()
        await pilot.press("down")
        assert place.value == "cosine"
        await pilot.press("up", "up")
        assert place.value == "linear"


async def test_what_is_typed_takes_the_place_of_what_was_there() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)) as pilot:
        steps = field(app, "optimiser.steps").query_one(Input)
        steps.focus()
        await pilot.press(*"250")
        assert steps.value == "250"
        schedule = field(app, "optimiser.schedule").query_one(Input)
        schedule.focus()
        await pilot.press("down", *"linear")
        assert schedule.value == "linear"


async def test_page_down_goes_to_the_first_field_of_the_next_part() -> None:
    app = FormApp()
    async with app.run_test(size=(100, 60)) as pilot:
        field(app, "seed").query_one(Input).focus()
        await pilot.press("pagedown", "pagedown")
        assert field(app, "data.name").has_focus_within
        await pilot.press("pageup")
        assert field(app, "method.name").has_focus_within


@pytest.mark.parametrize(("name", "text", "value"), [("upscale", "4", 4), ("sampler", "unipc", "unipc")])
def test_a_choice_of_numbers_or_words_is_read_as_what_it_is(name: str, text: str, value: object) -> None:
    entry = next(one for one in entries_of(GenerateSettings, {}) if one.path == (name,))
    assert entry.value(text) == value
    assert text in entry.choices


@pytest.mark.parametrize(
    ("method", "words"), [("lora", "low-rank additions"), ("full", "every weight"), ("scenes", "feature network")]
)
def test_the_name_of_a_method_says_what_the_method_does(method: str, words: str) -> None:
    entries = entries_of(TrainSettings, {"method": {"name": method}})
    assert words in next(one for one in entries if one.path == ("method", "name")).help


@pytest.mark.parametrize("name", ["source", "format", "classes", "link"])
def test_a_field_carries_the_help_of_its_setting(name: str) -> None:
    entry = next(one for one in entries_of(ImportSettings, {}) if one.path == (name,))
    assert entry.help.endswith((".", "looks."))
