"""A new training run: a recipe, a data set, a name, and every setting of the recipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on
from textual.containers import Horizontal
from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from screens import run_facts
from screens.form_screen import FormScreen
from screens.widgets.words import Words
from studio.datasets.dataset import finished_datasets
from studio.display import shown, shown_line
from studio.errors import StudioError
from studio.settings import TrainSettings

if TYPE_CHECKING:
    from screens.shell import StudioApp


class NewRunScreen(FormScreen):
    """The form of a recipe, under the recipe's name and the run's."""

    DEFAULT_CSS = """
    NewRunScreen .head { height: 1; }
    NewRunScreen .head > Static { width: 20; color: $primary; text-style: bold; }
    NewRunScreen .head > Input { width: 1fr; }
    NewRunScreen #about { height: auto; max-height: 3; color: $foreground 65%; margin-bottom: 1; }
    """

    def __init__(self, app: StudioApp, values: dict[str, Any], recipe: str, recipes: list[str]) -> None:
        names = [dataset.name for dataset in finished_datasets(app.workspace)]
        models = ["starter", *[path.path.name for path in app.jobs("runs")]]
        super().__init__(
            "New run",
            TrainSettings,
            values,
            self._start,
            {"data.name": names, "base": models},
            ("description", "known_problems"),
        )
        self._owner, self._recipe, self._recipes = app, recipe, recipes
        self._about = str(values.get("description", ""))

    def head(self) -> Iterable[Widget]:
        with Horizontal(classes="head"):
            yield Static("Recipe")
            yield Input(shown(self._recipe), id="recipe", suggester=SuggestFromList(self._recipes))
        with Horizontal(classes="head"):
            yield Static("Name")
            yield Input(placeholder="empty finds one", id="name")
        yield Static(Content(shown_line(self._about)), id="about")

    @on(Input.Blurred, "#recipe")
    @on(Input.Submitted, "#recipe")
    async def _load_recipe(self, event: Input.Blurred | Input.Submitted) -> None:
        name = event.input.value.strip()
        if not name or name == self._recipe:
            return
        from studio import requests

        try:
            settings = requests.load_recipe(self._owner.workspace, name, self._form.values["data"]["name"])
        except StudioError as error:
            self.tell_fault(f"{error.message} {error.hint}".strip())
            return
        self._recipe = name
        self.query_one("#about", Words).say(Content(shown_line(settings.description)))
        await self._form.fill(settings.model_dump(mode="json"))

    def _start(self, settings: TrainSettings) -> None:
        from studio import requests

        app = self._owner
        name = self.query_one("#name", Input).value.strip()
        name = name or requests.free_run_name(app.workspace, self._recipe or settings.method.name)
        job = requests.train_job(app.workspace, settings, name, app.session.device)
        app.start(job)
        app.run_in_view = job.folder
        app.call_later(app.switch_mode, "train")


def ask_for_run(app: StudioApp, data: str = "") -> None:
    """Open the form of the first recipe that fits, for a data set where one is named."""
    from studio import requests

    try:
        known = requests.recipes(app.workspace)
        sets = [dataset.name for dataset in finished_datasets(app.workspace)]
        if not sets:
            app.tell("i brings pictures into the workspace.", "There is no data set to train on", "warning")
            return
        recipe = next((name for name in ("lora", *known) if name in known), "")
        settings = requests.load_recipe(app.workspace, recipe, data or sets[0])
    except StudioError as error:
        app.tell_error(error)
        return
    app.push_screen(NewRunScreen(app, settings.model_dump(mode="json"), recipe, list(known)))


def ask_for_copy(app: StudioApp, folder: Path) -> None:
    """Open the form filled with a run's settings."""
    values = run_facts.settings_of(folder).get("settings", {})
    if not values:
        app.tell("Its config.toml cannot be read.", "There is nothing to copy", "warning")
        return
    app.push_screen(NewRunScreen(app, values, "", []))
