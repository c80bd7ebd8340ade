"""Class plans: so many tiles of each class, chosen from those of the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen

from screens import wording
from screens.confirm import ConfirmScreen
from screens.widgets.job_table import Column, JobTable
from screens.widgets.key_line import KeyLine
from screens.widgets.words import Words
from studio.display import shown, shown_line
from studio.errors import StudioError
from studio.settings import GenerateSettings
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.generation.class_plan import Plan

COLUMNS = (Column("plan", 30), Column("tiles", 7, right=True), Column("classes", 7, right=True))
CLASSES = 12


class PlanScreen(ModalScreen["str | None"]):
    """The plans with what each is for; one is made with the settings of the Prompt screen, once that was agreed to."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+j,ctrl+enter", "begin", "Start", key_display="^j", show=False, priority=True),
        Binding("escape,q,p", "close", "Cancel"),
    ]
    DEFAULT_CSS = """
    PlanScreen .dialog { width: 92; height: 90%; padding: 0 2; }
    PlanScreen JobTable { height: auto; max-height: 10; background: $surface; }
    PlanScreen VerticalScroll { height: 1fr; margin-top: 1; }
    PlanScreen #about { width: 100%; }
    """

    def __init__(self, workspace: Workspace, settings: GenerateSettings) -> None:
        super().__init__()
        self._settings = settings
        self._plans, self._faults = _plans_of(workspace)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(shown_line(f"Class plan · {self._settings.model}", 70))
            dialog.border_subtitle = Content("enter start · esc cancel")
            yield JobTable(COLUMNS, enter="Start")
            with VerticalScroll():
                yield Words(id="about")
        yield KeyLine()

    def on_mount(self) -> None:
        table = self.query_one(JobTable)
        rows = {name: (shown_line(name, 30), "", "") for name in self._faults}
        for name, plan in self._plans.items():
            rows[name] = (shown_line(name, 30), f"{plan.wanted:,}", f"{len(plan.classes):,}")
        table.show(dict(sorted(rows.items())))
        table.focus()
        if not rows:
            self.query_one("#about", Words).say("No plan yet. Write one in the workspace's plans folder.")

    @on(JobTable.RowHighlighted)
    def _explain(self) -> None:
        name = self.query_one(JobTable).row_in_view or ""
        said = Content.assemble((self._faults[name], "$error")) if name in self._faults else None
        plan = self._plans.get(name)
        self.query_one("#about", Words).say(said or (about(plan) if plan else ""))

    @on(JobTable.RowSelected)
    def action_begin(self) -> None:
        name = self.query_one(JobTable).row_in_view
        if name not in self._plans:
            return

        def answered(is_wanted: bool | None) -> None:
            if is_wanted:
                self.dismiss(name)

        tiles = wording.count(self._plans[name].wanted, "tile")
        title = f"Make {tiles} of {shown_line(name, 30)}?"
        text = f"With {shown_line(self._settings.model, 40)} and the settings of the Prompt screen."
        self.app.push_screen(ConfirmScreen(title, text, f"Make {tiles}", "Not now"), answered)

    def action_close(self) -> None:
        self.dismiss(None)


def _plans_of(workspace: Workspace) -> tuple[dict[str, Plan], dict[str, str]]:
    """The plans that can be read by name, and what is wrong with the others."""
    from studio import sources

    plans: dict[str, Plan] = {}
    faults: dict[str, str] = {}
    for name in sources.class_plans(workspace):
        try:
            plan = sources.plan_of(workspace, sources.PromptSource(plan=name))
        except StudioError as error:
            faults[name] = shown(wording.error_text(error))
        else:
            if plan is not None:
                plans[name] = plan
    return plans, faults


def about(plan: Plan) -> Content:
    """What a plan is for, what to know before, and its classes."""
    lines = [Content(shown_line(plan.description, 400))]
    if plan.known_problems:
        lines.append(Content.assemble((shown_line(f"Known problems: {plan.known_problems}", 600), "$warning")))
    filters = plan.filters
    refused = [word for word, wanted in (("artefacts", filters.artefacts), ("borders", filters.borders)) if wanted]
    refused += ["near duplicates"] if filters.near_duplicates else []
    refused += ["other classes"] if filters.margin is not None else []
    tried = f"up to {plan.attempts:g} tried for each"
    lines += [Content(f"Refused: {', '.join(refused) or 'nothing'}; {tried}."), Content("")]
    for one in plan.classes[:CLASSES]:
        lines.append(
            Content.assemble(
                (f"{one.count:>5,}  ", "bold $primary"),
                f"{shown_line(one.title, 24):<25}",
                (shown_line(f"{plan.before}{one.prompts[0]}", 50), "$foreground 65%"),
            )
        )
    if len(plan.classes) > CLASSES:
        lines.append(Content(f"       and {len(plan.classes) - CLASSES} more"))
    return Content("\n").join(lines)
