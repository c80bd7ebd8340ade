"""A new training run: a recipe, a data set, a name, every setting of the recipe, and what the run would take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events, on, work
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from screens import run_facts, wording
from screens.form_screen import FormScreen
from screens.widgets.form import Choice
from screens.widgets.words import Words
from studio.datasets.dataset import finished_datasets
from studio.display import shown, shown_line
from studio.errors import StudioError
from studio.events import Event, Planned, Warned
from studio.settings import TrainSettings

if TYPE_CHECKING:
    from screens.shell import StudioApp
    from studio.sweeps import Sweep

# Seconds after the last key before the recipe is read, and before the run is estimated.
REST_SECONDS = 0.3
VARY_HINT = (
    "A sweep: rank=4,16 learning_rate=1e-4,3e-4 trains every combination from one seed. The same name and settings "
    "go on with it."
)


class RunExpected(Message):
    """A thread has found out what a run would take, and what speaks against it."""

    def __init__(self, settings: TrainSettings, text: Content) -> None:
        super().__init__()
        self.settings, self.text = settings, text


class NewRunScreen(FormScreen):
    """The form of a recipe, under the recipe's name and the run's, above what the engine expects of it."""

    MODEL = "base"
    DEFAULT_CSS = """
    NewRunScreen .head { height: 1; }
    NewRunScreen .head > Static { width: 27; color: $primary; text-style: bold; }
    NewRunScreen .head > Static.second { width: 6; margin-left: 1; }
    NewRunScreen .head > Input { width: 1fr; }
    NewRunScreen .head > #vary { width: 2fr; }
    NewRunScreen #about { height: auto; max-height: 3; color: $foreground 65%; margin-bottom: 1; }
    NewRunScreen #expected { height: auto; max-height: 9; margin-top: 1; }
    NewRunScreen #expectation { width: 100%; }
    NewRunScreen.-low #about { max-height: 1; margin-bottom: 0; }
    NewRunScreen.-low #expected { max-height: 6; margin-top: 0; }
    """

    def __init__(self, app: StudioApp, values: dict[str, Any], recipe: str, recipes: list[str]) -> None:
        names = [dataset.name for dataset in finished_datasets(app.workspace)]
        models = model_names(app)
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
        self._rests: dict[str, Timer] = {}
        self._looked_at: tuple[TrainSettings, tuple[str, ...]] | None = None

    def head(self) -> Iterable[Widget]:
        with Horizontal(classes="head"):
            yield Static(Content(f"{'Recipe':<25}↕" if self._recipes else "Recipe"))
            yield Choice(shown(self._recipe), self._recipes, id="recipe")
        with Horizontal(classes="head"):
            yield Static("Name")
            yield Input(placeholder="empty finds one", id="name")
            yield Static("Vary", classes="second")
            yield Input(placeholder="nothing: one run", id="vary")
        yield Words(shown_line(self._about), id="about")

    def foot(self) -> Iterable[Widget]:
        with VerticalScroll(id="expected", can_focus=False):
            yield Words(id="expectation")

    def on_mount(self) -> None:
        super().on_mount()
        self._after_rest("estimate", self._estimate)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if event.widget.id == "recipe" and self._recipes:
            self.query_one("#hint", Words).say(shown_line(f"Recipes: {', '.join(self._recipes)}.", 400))
        elif event.widget.id == "vary":
            self.query_one("#hint", Words).say(VARY_HINT)

    def _after_rest(self, name: str, act: Any) -> None:
        if name in self._rests:
            self._rests[name].stop()
        self._rests[name] = self.set_timer(REST_SECONDS, act)

    # The recipe

    @on(Input.Changed, "#recipe")
    def _recipe_changed(self, event: Input.Changed) -> None:
        if event.value.strip() in self._recipes:
            self._after_rest("recipe", self._load_recipe)

    @property
    def _recipe_written(self) -> str:
        return self.query_one("#recipe", Input).value.strip()

    @on(Input.Blurred, "#recipe")
    @on(Input.Submitted, "#recipe")
    async def _load_recipe(self) -> None:
        name = self._recipe_written
        if not name or name == self._recipe:
            return
        from studio import sources

        try:
            settings = sources.load_recipe(self._owner.workspace, name, self._form.values["data"]["name"])
        except StudioError as error:
            self.tell_fault(wording.error_text(error))
            return
        self._recipe = name
        self.query_one("#about", Words).say(shown_line(settings.description))
        await self._form.fill(settings.model_dump(mode="json"))
        self._after_rest("estimate", self._estimate)

    # What the run would take

    @on(Input.Changed)
    def _settings_changed(self) -> None:
        self._after_rest("estimate", self._estimate)

    def _estimate(self) -> None:
        settings, vary = self._form.settings, self._vary
        if isinstance(settings, TrainSettings) and (settings, vary) != self._looked_at:
            self._looked_at = settings, vary
            self._look(settings, vary, self._owner.session.device)

    @work(thread=True, exclusive=True, group="expected")
    def _look(self, settings: TrainSettings, vary: tuple[str, ...], device: str) -> None:
        """Reads data sets and models, so not on the interface's own thread."""
        from studio import requests

        try:
            told, said = requests.expected(self._owner.workspace, settings, device)
        except StudioError as error:
            text = Content.assemble((shown(f"! {wording.error_text(error)}"), "$error"))
        else:
            text = Content.assemble(self._of_sweep(settings, vary), expectation(told, said))
        self.post_message(RunExpected(settings, text))

    def on_run_expected(self, message: RunExpected) -> None:
        if self._looked_at and message.settings == self._looked_at[0]:
            self.query_one("#expectation", Words).say(message.text)

    def model_fetched(self, name: str) -> None:
        super().model_fetched(name)
        self._looked_at = None
        self._estimate()

    async def action_begin(self) -> None:
        if self._recipe_written in ("", self._recipe):
            await super().action_begin()
            return
        # The fields are still those of the recipe before; what begins must have been seen.
        await self._load_recipe()
        self.query_one("#recipe").focus()
        if self._recipe_written == self._recipe:
            self._owner.tell("^j starts.", f"The form has the settings of {self._recipe} now")

    def _start(self, settings: TrainSettings) -> None:
        from studio import requests

        app = self._owner
        name = self.query_one("#name", Input).value.strip()
        if self._vary:
            self._sweep(settings, name)
            return
        name = name or requests.free_run_name(app.workspace, self._recipe_written or settings.method.name)
        job = requests.train_job(app.workspace, settings, name, app.session.device)
        app.start(job)
        app.run_in_view = job.folder
        app.call_later(app.switch_mode, "train")

    @property
    def _vary(self) -> tuple[str, ...]:
        return tuple(self.query_one("#vary", Input).value.split())

    def _of_sweep(self, settings: TrainSettings, vary: tuple[str, ...]) -> str:
        """How many runs are to come, of each of which the rest is said."""
        if not vary:
            return ""
        try:
            arms = self._planned(settings, vary).arms
        except StudioError as error:
            return f"! {wording.error_text(error)}\n"
        return f"{wording.count(len(arms), 'run')}, of which each is to take:\n"

    def _planned(self, settings: TrainSettings, vary: tuple[str, ...], recipe: str = "", name: str = "") -> Sweep:
        from studio.sweeps import SweepRecord, plan_sweep

        record = SweepRecord(recipe=recipe, vary=vary, settings=settings)
        return plan_sweep(self._owner.workspace, record, name)

    def _sweep(self, settings: TrainSettings, name: str) -> None:
        from studio.sweeps import sweep_jobs

        app = self._owner
        sweep = self._planned(settings, self._vary, self._recipe_written, name)
        app.start_series(sweep_jobs(app.workspace, sweep, app.session.device), goes_on=True)
        app.run_in_view = None
        runs = wording.count(len(sweep.arms), "run")
        app.tell(f"ctrl+p, then “{sweep.name}”, compares them.", f"A sweep of {runs} begins")
        app.call_later(app.switch_mode, "train")


def expectation(settings: TrainSettings, said: list[Event]) -> Content:
    """What a run would take, what speaks against it, and what is known of its recipe."""
    plan = next((wording.plan_of(event) for event in said if isinstance(event, Planned)), "")
    lines = [Content.assemble(("▸ ", "$accent"), plan or _not_known(settings))]
    for event in said:
        if isinstance(event, Warned):
            lines.append(Content.assemble((shown_line(f"! {event.message} {event.hint}", 400), "$warning")))
    if settings.known_problems:
        known = shown_line(f"Known problems: {settings.known_problems}", 600)
        lines.append(Content.assemble((known, "$foreground 65%")))
    return Content("\n").join(lines)


def _not_known(settings: TrainSettings) -> str:
    return f"{wording.count(settings.optimiser.steps, 'step')}; memory and time are not known before it begins"


def model_names(app: StudioApp) -> list[str]:
    """Models to begin from that are here: the starter, runs, and those of the hub that were fetched."""
    from studio.fetching import fetched_names

    return ["starter", *[job.path.name for job in app.jobs("runs")], *fetched_names(app.workspace)]


def ask_for_run(app: StudioApp, data: str = "") -> None:
    """Open the form of the first recipe that fits, for a data set where one is named."""
    from studio import sources

    try:
        known = sources.recipes(app.workspace)
        sets = [dataset.name for dataset in finished_datasets(app.workspace)]
        if not sets:
            app.tell("i brings pictures into the workspace.", "There is no data set to train on", "warning")
            return
        recipe = next((name for name in ("lora", *known) if name in known), "")
        settings = sources.load_recipe(app.workspace, recipe, data or sets[0])
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
