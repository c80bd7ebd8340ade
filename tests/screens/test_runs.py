"""What a run would take, what came of it, and which of its checkpoints stands for it; without torch."""

import shutil

import pytest
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from screens.checkpoints import CheckpointScreen
from screens.compare_runs import CompareRunsScreen, differing
from screens.new_run import NewRunScreen
from screens.probe_form import ProbeScreen
from screens.shell import StudioApp
from screens.widgets.event_log import EventLog
from screens.widgets.form import Field
from screens.widgets.job_table import JobTable
from screens.widgets.key_line import KeyLine
from screens.widgets.words import Words
from studio import jobs
from studio.context import Context, Done
from studio.errors import StudioError
from studio.events import Phase, Planned, Started, StepDone, Warned
from studio.models import checkpoints
from studio.workspace import TEMPLATE, Workspace
from tests.fakes import FakeTraining, fake_run
from tests.screens.conftest import SIZES, looked, until
from tests.screens.journals import with_demo, with_run


def with_recipes(workspace: Workspace, *names: str) -> None:
    for name in names:
        shutil.copy(TEMPLATE / "recipes" / f"{name}.toml", workspace.recipes)


def said(app: StudioApp, selector: str) -> str:
    return app.screen.query_one(selector, Words).said


def keys(app: StudioApp) -> str:
    """The line of keys below the screen."""
    return app.screen.query_one(KeyLine).render().plain


def below(frame: Widget) -> str:
    """What the lower edge of a frame says."""
    return Content.from_markup(frame.border_subtitle or "").plain


@pytest.mark.parametrize("size", SIZES)
async def test_the_form_says_what_a_run_would_take_and_what_speaks_against_it(
    app: StudioApp, size: tuple[int, int]
) -> None:
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora")
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await until(pilot, lambda: "400 steps of 16 pictures" in said(app, "#expectation"))
        assert "10 pictures are few for a LoRA" in said(app, "#expectation")
        assert "Known problems: The starter knows" in said(app, "#expectation")
        batch = next(one for one in app.screen.query(Field) if one.entry.path[-1] == "batch")
        batch.query_one(Input).value = "8"
        await until(pilot, lambda: "400 steps of 8 pictures" in said(app, "#expectation"))


async def test_going_through_the_recipes_fills_the_form_from_each(app: StudioApp) -> None:
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora", "remote-diffusion-2024")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await pilot.press("down")
        await until(pilot, lambda: "Kasodekar" in said(app, "#about"))

        def texts() -> dict[str, str]:
            return {".".join(one.entry.path): one.text for one in app.screen.query(Field)}

        await until(pilot, lambda: texts().get("method.name") == "full")
        assert texts()["optimiser.epochs"] == "5"
        assert "method.rank" not in texts()
        await until(pilot, lambda: "224 px is far below" in said(app, "#expectation"))


@pytest.mark.parametrize("also", [[], ["tab"]])
async def test_a_recipe_that_does_not_exist_begins_nothing_and_its_fault_stays(app: StudioApp, also: list[str]) -> None:
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await pilot.press(*"lore", *also, "ctrl+j")
        await until(pilot, lambda: "There is no recipe named lore" in said(app, "#faults"))
        await pilot.pause(0.1)
        assert "There is no recipe named lore" in said(app, "#faults")
        assert app.screen.query_one("#recipe").has_focus
        assert list(app.workspace.runs.iterdir()) == []
        await pilot.press("x")
        await until(pilot, lambda: not said(app, "#faults"))


async def test_letters_typed_before_a_fault_was_found_do_not_wipe_it(app: StudioApp) -> None:
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await until(pilot, lambda: app.screen.query_one("#recipe").has_focus and said(app, "#expectation"))
        app.screen.query_one("#name", Input).value = "Typed before"  # told of only when the test waits
        assert isinstance(app.screen, NewRunScreen)
        app.screen.tell_fault("It cannot be.")
        await pilot.pause()
        assert said(app, "#faults") == "It cannot be."
        await pilot.press("x")
        await until(pilot, lambda: not said(app, "#faults"))


async def test_a_recipe_typed_a_moment_ago_is_seen_before_it_begins(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(3))
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora", "starter-scenes")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await pilot.press(*"starter-scenes", "ctrl+j")
        await until(pilot, lambda: any("settings of starter-scenes" in one.title for one in app._notifications))
        assert list(app.workspace.runs.iterdir()) == []
        await pilot.press("ctrl+j")
        await until(pilot, lambda: [job.path.name for job in app.jobs("runs")] == ["0001-starter-scenes"])


async def test_page_down_goes_from_the_name_of_the_recipe_into_the_form(app: StudioApp) -> None:
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora")
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        fields = list(app.screen.query(Field))
        await pilot.press("pagedown")
        await until(pilot, lambda: fields[0].has_focus_within)
        await pilot.press("pagedown")
        await until(pilot, lambda: any(one.entry.path == ("method", "name") and one.has_focus_within for one in fields))


async def test_a_data_set_that_is_not_there_is_told_before_the_start(app: StudioApp) -> None:
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        name = next(one for one in app.screen.query(Field) if one.entry.path == ("data", "name"))
        name.query_one(Input).value = "nothing"
        await until(pilot, lambda: "nothing" in said(app, "#expectation"))
        assert list(app.workspace.runs.iterdir()) == []


@pytest.mark.parametrize("size", SIZES)
async def test_a_checkpoint_is_promoted_among_its_measures(app: StudioApp, size: tuple[int, int]) -> None:
    folder = with_run(app.workspace, "0001-river")
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("3", "c")
        await until(pilot, lambda: isinstance(app.screen, CheckpointScreen) and app.screen.query(JobTable))
        table = app.screen.query_one(JobTable)
        await until(pilot, lambda: table.row_count == 2 and "0.400 0.200 0.100 0.050" in said(app, "#by-noise"))
        cells = [str(cell) for cell in table.get_row("10")]
        assert cells == ["10", "0.2000", "0.1", "7.5", "best"]
        await pilot.press("down", "p")
        await until(pilot, lambda: "0001-river@20 stands for its run" in said(app, "#by-noise"))
        assert checkpoints.promoted_step(folder) == 20
        await until(pilot, lambda: str(table.get_row("20")[-1]) == "promoted")


async def test_a_broken_checkpoint_is_not_promoted(app: StudioApp) -> None:
    folder = with_run(app.workspace, "0001-river")
    (folder / "checkpoints" / "step-000010" / "state.json").write_text("[]")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3", "c")
        await until(pilot, lambda: app.screen.query(JobTable) and app.screen.query_one(JobTable).row_count == 2)
        await pilot.press("p")
        await until(pilot, lambda: "no such whole checkpoint" in said(app, "#by-noise"))
        assert checkpoints.promoted_step(folder) is None


async def test_enter_on_a_checkpoint_promotes_nothing(app: StudioApp) -> None:
    folder = with_run(app.workspace, "0001-river")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3", "c")
        await until(pilot, lambda: app.screen.query(JobTable) and app.screen.query_one(JobTable).row_count == 2)
        await pilot.press("enter")
        await pilot.pause()
        assert "Promote" in keys(app)
        assert "Open" not in keys(app)
        await pilot.press("g")  # whatever enter had begun would be told before the screen goes
        await until(pilot, lambda: app.current_mode == "prompt")
        assert checkpoints.promoted_step(folder) is None


async def test_a_checkpoint_goes_to_the_prompt_screen_and_leaves_the_prompt_alone(app: StudioApp) -> None:
    with_run(app.workspace, "0001-river")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", *"a lake", "escape", "3", "c")
        await until(pilot, lambda: app.screen.query(JobTable) and app.screen.query_one(JobTable).row_count == 2)
        await pilot.press("g")
        await until(pilot, lambda: app.current_mode == "prompt")
        fields = app.screen.query(Field)
        await until(pilot, lambda: any(one.text == "0001-river@10" for one in app.screen.query(Field)))
        assert fields
        assert app.screen.query_one("#text").text == "a lake"  # type: ignore[attr-defined]


async def test_curves_by_noise_and_of_what_is_forgotten_have_their_figures_below(app: StudioApp) -> None:
    with_run(app.workspace, "0001-river")
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3", "left_square_bracket")
        plot = app.screen.query_one("#plot")
        await until(pilot, lambda: "forgetting 0.2" in below(plot))
        assert "diversity 7.5" in below(plot)
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: "little noise  0.4200" in below(plot))


async def test_memory_that_ran_out_is_told_on_any_screen_and_kept_in_the_events(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(context: Context) -> Done:
        context.emit(Started("train", "cpu", 0, 4))
        context.emit(Planned(4, 1.6, 10, 16, 16, 2.5e9, 90.0, "a guess"))
        context.emit(Phase("Caching latents", 3, 10))
        for step in range(1, 4):
            context.emit(StepDone(step, 0.3, 1e-4, 1.0, 16, 0.1))
        while not told:  # the studio tells of warnings of live jobs
            context.emit(Warned("Memory ran out at 16 pictures.", "Going on with 8."))
            if context.should_stop(3):
                break
            context.control.wait(0.05)
        return Done({"step": 4})

    told: list[str] = []
    monkeypatch.setitem(jobs.KINDS, "train", train)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        app.start(fake_run(app.workspace))
        await until(pilot, lambda: any("Going on with 8." in one.message for one in app._notifications))
        told.append("yes")
        await pilot.press("3")
        await until(pilot, lambda: "Memory ran out at 16 pictures." in _log(app))
        assert "expected: 4 steps of 16 pictures" in _log(app)
        assert "2.5 GB" in said(app, "#speed")


async def test_what_varies_makes_a_sweep_that_goes_on_past_a_run_that_failed(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_demo(app.workspace)
    with_recipes(app.workspace, "lora")

    def train(context: Context) -> Done:
        if context.folder.path.name == "0002-ranks-2":
            raise StudioError("cpu ran out of memory.")
        return FakeTraining(3)(context)

    monkeypatch.setitem(jobs.KINDS, "train", train)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        app.screen.query_one("#name", Input).value = "ranks"
        vary = app.screen.query_one("#vary", Input)
        vary.value = "rank=2,4 no_such=1"
        await pilot.pause()
        await pilot.press("ctrl+j")
        await until(pilot, lambda: "There is no setting named no_such" in said(app, "#faults"), 2)
        vary.value = "rank=2,4,8"
        await until(pilot, lambda: said(app, "#expectation").startswith("3 runs, of which each is to take:"))
        await pilot.press("ctrl+j")
        await until(pilot, lambda: len(app.jobs("runs")) == 3 and not app.waiting)
        states = {"0001-ranks-1": "completed", "0002-ranks-2": "failed", "0003-ranks-3": "completed"}
        await until(pilot, lambda: {job.path.name: job.state.status for job in app.jobs("runs")} == states)
        command = next(one for one in app.get_system_commands(app.screen) if one.title == "sweep: Compare ranks")
        command.callback()
        await until(pilot, lambda: isinstance(app.screen, CompareRunsScreen) and app.screen.query(JobTable))
        table = app.screen.query_one(JobTable)
        assert [str(column.label) for column in table.ordered_columns][2] == "rank"


async def test_a_base_is_probed_before_it_is_trained(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    with_demo(app.workspace)
    monkeypatch.setitem(jobs.KINDS, "generate", lambda context: Done({"saved": 0}))
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("3", "b")
        await until(pilot, lambda: isinstance(app.screen, ProbeScreen))
        count = next(one for one in app.screen.query(Field) if one.entry.path == ("count",))
        count.query_one(Input).value = "0"
        await pilot.press("ctrl+j")
        await until(pilot, lambda: "attention" in said(app, "#faults"))
        count.query_one(Input).value = "1"
        await pilot.press("ctrl+j")
        await until(pilot, lambda: [job.path.name for job in app.jobs("batches")] == ["probe-starter-land-cover"])
        plan = (app.workspace.batches / "probe-starter-land-cover" / "plan.jsonl").read_text()
        assert "a satellite image of" in plan


async def test_runs_of_a_sweep_stand_side_by_side_best_first(app: StudioApp) -> None:
    for number, (loss, rate) in enumerate(((0.3, 1e-4), (0.1, 3e-4), (0.2, 1e-3)), 1):
        with_run(app.workspace, f"000{number}-sweep-{number}", loss, learning_rate=rate)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, CompareRunsScreen))
        table = app.screen.query_one(JobTable)
        assert [str(column.label) for column in table.ordered_columns][2] == "learning rate"
        rows = [[str(cell) for cell in table.get_row_at(place)] for place in range(3)]
        assert [row[1] for row in rows] == ["0002 sweep-2", "0003 sweep-3", "0001 sweep-1"]
        assert rows[0][2:6] == ["3.0e-04", "20", "0.1000", "10"]
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "train" and app.run_in_view is not None)
        assert app.run_in_view is not None
        assert app.run_in_view.path.name == "0002-sweep-2"


def test_only_settings_that_differ_are_compared() -> None:
    assert differing([{"seed": 1, "method.rank": 4}, {"seed": 1, "method.name": "full"}]) == [
        "method.rank",
        "method.name",
    ]


def _log(app: StudioApp) -> str:
    return app.screen.query_one(EventLog).query_one(Words).said
