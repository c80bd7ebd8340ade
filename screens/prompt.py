"""Prompt: what to make, with choices written out, tokens counted and suggestions at hand, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, TextArea

from screens import batch_facts, run_facts, wording
from screens.frame import StudioScreen
from screens.prompt_facts import Looked, look_at, seconds_for
from screens.watching import JobNews, Watched
from screens.widgets.form import Form
from screens.widgets.job_table import Column, JobTable
from screens.widgets.picture_grid import PictureGrid, Tile
from screens.widgets.words import Words
from studio.display import shown, shown_line
from studio.errors import SettingsError, StudioError
from studio.jobs import Job
from studio.settings import GenerateSettings

if TYPE_CHECKING:
    from studio.sources import PromptSource

# Seconds after the last key before the text is looked at.
REST_SECONDS = 0.4
SUGGESTIONS = (Column("suggestion", 56), Column("from"))
HISTORY = (Column("", 1), Column("batch", 16), Column("tiles", 7, right=True), Column("prompt"))
ASK = "e to write: a satellite image of a {river|canal} delta with sand banks"
FROM = "prompts: file, book or SET:SPLIT"
LEFT_OUT = ("batch", "precision")


class PromptLooked(Message):
    """A thread has counted the tokens of a prompt and found suggestions."""

    def __init__(self, looked: Looked) -> None:
        super().__init__()
        self.looked = looked


class PromptScreen(StudioScreen):
    MODE = "prompt"
    CSS_PATH = "prompt.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+j,ctrl+enter", "generate", "Generate", key_display="^j", priority=True, tooltip="Make the images"
        ),
        Binding("e", "edit", "Edit", tooltip="Write the prompt; esc leaves the editor"),
        Binding("x", "stop", "Stop", tooltip="Stop making images; what is made stays"),
        Binding("r", "resume", "Resume", tooltip="Make the tiles that are missing of a batch that stopped"),
        Binding("p", "plan", "Class plan", tooltip="Make so many tiles of each class, and refuse what is not usable"),
        Binding("g", "grid", "Grid", tooltip="The prompt in several settings side by side"),
        Binding("v", "batch", "View batch", tooltip="A grid's sheet; what became of a plan, and what was refused"),
        Binding("b", "keep", "Keep", tooltip="Put the prompt into the prompt book"),
        Binding("f", "full_size", "Full size", show=False, tooltip="The results as large as the screen"),
        # Their keys are on the frame of the suggestions.
        Binding("ctrl+n", "next_suggestion", "Next", show=False, tooltip="The next suggestion", priority=True),
        Binding("ctrl+y", "accept", "Accept", show=False, tooltip="Take the suggestion as the prompt", priority=True),
        Binding("ctrl+g", "more", "Others", show=False, tooltip="Other suggestions", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._timer: Timer | None = None
        self._seed = 0
        self._suggested: tuple[tuple[str, str], ...] = ()
        self._batch_in_view: str | None = None
        self._is_begun = False

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="body"):
            with Vertical(id="left"):
                with Vertical(id="prompt", classes="frame"):
                    yield TextArea(
                        id="text", soft_wrap=True, tab_behavior="focus", show_line_numbers=False, placeholder=ASK
                    )
                    yield Input(placeholder="negative: what to steer away from", id="negative")
                    yield Input(placeholder=FROM, id="prompts")
                    yield Words(id="said")
                with Vertical(id="suggestions", classes="frame"):
                    yield JobTable(SUGGESTIONS, id="suggested")
                with Vertical(id="sampling", classes="frame"):
                    yield Form(GenerateSettings, {"count": 4}, {"model": self._models()}, LEFT_OUT)
                    yield Words(id="hint")
            with Vertical(id="right"):
                yield PictureGrid(
                    id="results", classes="frame", empty="Nothing made yet. e writes a prompt, ^j makes images."
                )
                with Vertical(id="history", classes="frame"):
                    yield JobTable(HISTORY, id="batches")

    def _models(self) -> list[str]:
        from screens.new_run import model_names

        return model_names(self.studio)

    def on_mount(self) -> None:
        self.query_one("#prompt").border_title = "Prompt"
        self.query_one("#suggestions").border_title = "Suggestions"
        self.query_one("#suggestions").border_subtitle = "^n next  ^y accept  ^g others"
        self.query_one("#sampling").border_title = "Sampling"
        self.query_one("#results").border_title = "Result"
        self.query_one("#history").border_title = "History"
        self._look_soon()

    # Showing

    def show_all(self) -> None:
        self._show_history()
        self._show_results()
        recipe, self.studio.recipe_to_reuse = self.studio.recipe_to_reuse, None
        if recipe is not None:
            self.call_later(self._reuse, recipe)

    def show_news(self, news: list[JobNews]) -> None:
        if any(one.job.section == "batches" for one in news):
            self._show_history()
            self._show_results()

    def _show_history(self) -> None:
        rows = {}
        for job in self._batches():
            images = job.state.images
            prompt = shown_line(images[-1].prompt if images else "", 60)
            rows[job.path.name] = (
                run_facts.symbol(job.state),
                shown_line(job.path.name, 16),
                f"{len(images):,}",
                prompt,
            )
        table = self.query_one("#batches", JobTable)
        table.show(rows)
        if self.job is not None and (self._is_begun or not table.has_focus):
            # The batch in view; one that was just begun has no row before its folder is found.
            self._is_begun = self._is_begun and self.job.path.name != self._batch_in_view
            table.go_to(self.job.path.name)

    def _batches(self) -> list[Watched]:
        return sorted(self.studio.jobs("batches"), key=lambda job: job.state.started_at, reverse=True)

    @property
    def job(self) -> Watched | None:
        """The batch in view: the one chosen, else the newest."""
        batches = self._batches()
        return next((job for job in batches if job.path.name == self._batch_in_view), batches[0] if batches else None)

    def _show_results(self) -> None:
        job, grid = self.job, self.query_one("#results", PictureGrid)
        if job is None:
            return
        images = list(job.state.images)[-9:]
        if batch_facts.has_sheet(job):
            grid.show([Tile(job.path / batch_facts.SHEET, "all cells, labelled; f shows them larger")])
        else:
            grid.show([Tile(job.path / one.path, f"seed {one.seed}") for one in images])
        grid.border_title = Content(f"Result · {shown_line(job.path.name, 30)}")
        phase = job.state.phase
        if job.is_live and phase is not None:
            grid.border_subtitle = Content(wording.phase_of(phase, 24))
        else:
            refused = f" · {len(job.state.refused):,} refused" if job.state.refused else ""
            made = wording.tiles_of(job.state, batch_facts.wanted(job))
            grid.border_subtitle = Content(f"{made}{refused} · {batch_facts.fate(job)}")
        self.refresh_bindings()

    async def _reuse(self, recipe: dict[str, Any]) -> None:
        """Fill everything from a tile's recipe; what it does not name stays as it is."""
        if "prompt" in recipe:
            self.query_one("#text", TextArea).text = shown(recipe["prompt"])
            self.query_one("#negative", Input).value = shown_line(recipe.get("negative", ""))
            self.query_one("#prompts", Input).value = ""
        known = {name: recipe[name] for name in GenerateSettings.model_fields if name in recipe and name != "count"}
        if recipe.get("window_px") and recipe.get("upscale", 1) == 1:
            known["scene"] = True
        if not recipe.get("init"):
            known.pop("strength", None)  # of a picture to begin from, and there is none
        kept = {} if "prompt" in recipe else self.query_one(Form).values
        await self.query_one(Form).fill({"count": 4, **kept, **known})
        self._look_soon()

    # The prompt as it is written

    @on(TextArea.Changed, "#text")
    @on(Input.Changed, "#negative,#prompts,Choice")
    def _look_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(REST_SECONDS, self._look_now)

    def _look_now(self) -> None:
        model = str(self.query_one(Form).values.get("model") or "starter")
        self._look(self.query_one("#text", TextArea).text, model, self._seed, self._source)

    @work(thread=True, exclusive=True, group="look")
    def _look(self, text: str, model: str, seed: int, source: str) -> None:
        self.post_message(PromptLooked(look_at(self.studio.workspace, text, model, seed, source)))

    def on_prompt_looked(self, message: PromptLooked) -> None:
        looked = message.looked
        said: list[str | tuple[str, str]] = []
        if looked.fault:
            said.append((f"! {looked.fault}", "$error"))
        elif self._source:
            said.append(
                f"{wording.count(looked.prompts, 'prompt')} of {shown_line(self._source, 40)}, not the text above"
            )
        elif looked.prompts > 1:
            said.append(f"{{a|b}} makes one prompt for each choice: {looked.prompts} prompts")
        self.query_one("#said", Words).say(Content.assemble(*said))
        colour = "bold $error" if looked.is_too_long else ""
        self.query_one("#prompt").border_subtitle = Content.assemble((looked.tokens, colour))
        self.query_one("#sampling").border_subtitle = Content("" if looked.fault else self._expected(looked.prompts))
        self._suggested = looked.suggestions
        self.query_one("#suggested", JobTable).show(
            {
                str(place): (shown_line(text, 200), shown_line(source, 24))
                for place, (text, source) in enumerate(self._suggested)
            }
        )

    @property
    def _source(self) -> str:
        """The file, book or split that gives the prompts, if one is named."""
        return self.query_one("#prompts", Input).value.strip()

    def _expected(self, prompts: int) -> str:
        """How many tiles there will be, and how long they take where some like them were made before."""
        settings = self.query_one(Form).settings
        if not isinstance(settings, GenerateSettings):
            return ""
        count = settings.count or prompts
        seconds = seconds_for(self._batches(), settings.model_dump(), count)
        return wording.count(count, "tile") + (
            f" · ≈ {wording.duration(max(seconds, 1))}" if seconds is not None else ""
        )

    # Keys and messages

    @on(Form.FieldFocused)
    def _explain(self, message: Form.FieldFocused) -> None:
        self.query_one("#hint", Words).say(Content(shown_line(message.help)))

    @on(Input.Blurred)
    def _look_for_model(self) -> None:
        self._look_soon()

    @on(JobTable.RowHighlighted, "#batches")
    def _look_at_batch(self, event: JobTable.RowHighlighted) -> None:
        if self.query_one("#batches").has_focus:
            self._batch_in_view = event.row_key.value
            self._show_results()

    @on(JobTable.RowSelected, "#suggested")
    def _take_suggestion(self) -> None:
        self.action_accept()

    @on(JobTable.RowSelected, "#batches")
    def _take_prompt(self, event: JobTable.RowSelected) -> None:
        job = self.job
        if job is not None and job.state.images:
            self.query_one("#text", TextArea).text = shown(job.state.images[-1].prompt)

    @on(PictureGrid.Chosen)
    def _open_result(self, message: PictureGrid.Chosen) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(message.grid.tiles, message.place))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("stop", "resume") and self.is_mounted:
            # One of the two is of use, and the line of keys has no room for both.
            can_resume = self.job is not None and self.job.state.status in wording.RESUMABLE
            if action == "resume":
                return can_resume
            return False if can_resume else True if self.job and self.job.is_live else None
        if action == "batch" and self.is_mounted:
            return True if self.job else None
        if action == "full_size" and self.is_mounted:
            return True if self.query_one("#results", PictureGrid).tiles else None
        return True

    def action_edit(self) -> None:
        self.set_focus(self.query_one("#text"))

    def action_full_size(self) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(self.query_one("#results", PictureGrid).tiles))

    def action_next_suggestion(self) -> None:
        table = self.query_one("#suggested", JobTable)
        if table.row_count:
            table.move_cursor(row=(table.cursor_row + 1) % table.row_count)

    def action_accept(self) -> None:
        place = self.query_one("#suggested", JobTable).row_in_view
        if place is not None:
            editor = self.query_one("#text", TextArea)
            editor.text = shown(self._suggested[int(place)][0])
            editor.move_cursor(editor.document.end)

    def action_more(self) -> None:
        self._seed += 1
        self._look_now()

    def action_stop(self) -> None:
        if job := self.job:
            self.studio.ask(job.watch.folder, "stop")

    def action_resume(self) -> None:
        from screens.batch import resume

        if job := self.job:
            resume(self.studio, job)

    def action_keep(self) -> None:
        from studio.prompts.book import Prompt, add_prompts

        text = self.query_one("#text", TextArea).text.strip()
        if not text:
            self.studio.tell("e writes one.", "There is no prompt to keep", "warning")
            return
        try:
            add_prompts(self.studio.workspace, [Prompt(prompt=text, negative=self.query_one("#negative", Input).value)])
        except StudioError as error:
            self.studio.tell_error(error)
            return
        self.studio.tell("The prompt is in the prompt book.")

    def action_batch(self) -> None:
        from screens.batch import BatchScreen

        if job := self.job:
            self.app.push_screen(BatchScreen(job))

    @property
    def _text(self) -> str:
        return " ".join(self.query_one("#text", TextArea).text.split())

    def action_generate(self) -> None:
        from screens.fetch import with_model
        from studio import sources

        settings = self.query_one(Form).check()
        if not isinstance(settings, GenerateSettings):
            return
        prompts = self._source
        if not self._text and not prompts:
            self.studio.tell("e writes one.", "There is no prompt yet", "warning")
            return
        negative = self.query_one("#negative", Input).value
        source = sources.PromptSource(prompt="" if prompts else self._text, prompts=prompts, negative=negative)
        with_model(self.studio, settings.model, lambda: self._begin(settings, source, "image"))

    def action_plan(self) -> None:
        from screens.fetch import with_model
        from screens.plans import PlanScreen
        from studio import sources

        settings = self.query_one(Form).check()
        if not isinstance(settings, GenerateSettings):
            return

        def chosen(name: str | None) -> None:
            if name is not None:
                source = sources.PromptSource(plan=name)
                with_model(self.studio, settings.model, lambda: self._begin(settings, source, "tile"))

        self.app.push_screen(PlanScreen(self.studio.workspace, settings), chosen)

    def action_grid(self) -> None:
        from screens.fetch import with_model
        from screens.grid_form import ask_for_grid

        settings = self.query_one(Form).check()
        if isinstance(settings, GenerateSettings):
            negative = self.query_one("#negative", Input).value
            ask = (self.studio, settings, self._text, negative, self._follow)
            with_model(self.studio, settings.model, lambda: ask_for_grid(*ask))

    def _begin(self, settings: GenerateSettings, source: PromptSource, noun: str) -> None:
        """Make the tiles of a prompt, or of a class plan."""
        from studio import requests, sources

        workspace = self.studio.workspace
        try:
            plan = sources.plan_of(workspace, source)
            tiles = sources.tiles_of(workspace, source, 0 if plan else settings.count, settings.seed)
            name = requests.free_run_name(workspace, source.plan) if source.plan else ""
            job = requests.generate_job(workspace, settings, tiles, name, self.studio.session.device, plan)
        except SettingsError as error:
            self.query_one(Form).mark(dict(error.faults))
        except StudioError as error:
            self.studio.tell_error(error)
        else:
            self._follow(job, wording.count(plan.wanted if plan else len(tiles), noun))

    def _follow(self, job: Job, what: str) -> None:
        """Start a batch, and show what comes of it."""
        self._batch_in_view, self._is_begun = job.folder.path.name, True
        self.studio.start(job)
        self.studio.tell(f"Making {what} as {job.folder.path.name}.")
