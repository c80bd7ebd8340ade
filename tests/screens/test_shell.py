import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Static

from screens import wording
from screens.confirm import QuitScreen
from screens.frame import TABS, StatusLine, TopLine
from screens.help import HelpScreen, keys_of
from screens.shell import StudioApp
from screens.widgets.plot import RunPlot
from screens.widgets.words import Words
from studio import jobs
from studio.context import Context, Done
from studio.events import Phase, Started, StepDone
from studio.jobs import Job
from studio.runs import JobFolder, RunState, state_of
from studio.workspace import numbered_folders
from tests.fakes import FakeTraining, fake_run
from tests.screens.conftest import SIZES, looked, until

MODES = [mode for mode, _ in TABS]


@pytest.mark.parametrize("size", SIZES)
async def test_the_digits_go_to_the_six_screens(app: StudioApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        for number, mode in enumerate(MODES, 1):
            await pilot.press(str(number))
            await pilot.pause()
            assert app.current_mode == mode
            assert mode.capitalize() in app.screen.query_one(TopLine).render().plain
        await pilot.press("1")
        assert app.current_mode == "home"


@pytest.mark.parametrize("mode", MODES)
async def test_one_letter_has_one_meaning_on_a_screen(app: StudioApp, mode: str) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        app.switch_mode(mode)
        await pilot.pause()
        meanings: dict[str, set[str]] = {}
        nodes = [app, app.screen, *(one for one in app.screen.query("*") if one.can_focus and not _takes_text(one))]
        for node in nodes:
            for key, binding in node._bindings:
                if len(key) == 1 or key in NAMED:
                    meanings.setdefault(key, set()).add(_meaning(binding.action))
        assert {key: acts for key, acts in meanings.items() if len(acts) > 1} == {}


NAMED = ("space", "slash", "left_square_bracket", "right_square_bracket", "question_mark", "colon", "comma")


def _takes_text(widget: object) -> bool:
    return type(widget).__name__ in ("Input", "TextArea")


def _meaning(action: str) -> str:
    """Lists and grids move their cursor down by different names of the same act; one key pauses and goes on."""
    same = {"cursor_down": "move_rows(1)", "cursor_up": "move_rows(-1)", "scroll_down": "move_rows(1)"}
    same["go_on"] = "pause"
    return same.get(action, action)


async def test_help_lists_the_keys_of_the_screen_and_those_that_work_everywhere(app: StudioApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3", "question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        text = app.screen._keys.plain
        assert "Save a checkpoint now" in text
        assert text.index("This screen") < text.index("Everywhere")
        await pilot.press("escape")
        assert not isinstance(app.screen, HelpScreen)
        assert keys_of(app.screen).plain == text


async def test_jump_reaches_a_screen_while_a_field_has_the_keyboard(app: StudioApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("4", "e", "5")
        await pilot.pause()
        assert app.current_mode == "prompt"
        await pilot.press("ctrl+o", "5")
        await until(pilot, lambda: app.current_mode == "gallery")


async def test_the_palette_offers_acts_of_the_screen_as_noun_and_verb(app: StudioApp) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert "home: New run" in titles
        assert "screen: Gallery" in titles
        assert all(": " in title for title in titles)


async def test_leaving_without_work_asks_nothing(app: StudioApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)
    assert app.return_code == 0


@pytest.mark.parametrize(("key", "leaving"), [("b", "keep"), ("s", "stop")])
async def test_leaving_while_a_run_is_at_work_asks(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch, key: str, leaving: str
) -> None:
    training = FakeTraining(hold_at=5)
    monkeypatch.setitem(jobs.KINDS, "train", training)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        app.start(fake_run(app.workspace))
        await until(pilot, app.live_jobs)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, QuitScreen))
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        await pilot.press(key)
        await until(pilot, lambda: not app.is_running)
    assert app.leaving == leaving
    training.let_go.set()


async def test_a_job_that_ends_is_told_wherever_one_is(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=3))
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("2")
        app.start(fake_run(app.workspace))
        await until(pilot, lambda: list(app._notifications))
        assert "Training 0001 fake is done." in [one.message for one in app._notifications]


async def test_a_series_begins_each_job_when_the_one_before_is_done(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=3))
    done_before: list[str] = []

    def circle() -> Iterator[Job]:
        for name in ("one", "two"):
            done_before.append(" ".join(state_of(path).status for path in numbered_folders(app.workspace.runs)))
            yield fake_run(app.workspace, name)

    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        app.start_series(circle())
        await until(pilot, lambda: [job.state.status for job in app.jobs("runs")] == ["completed", "completed"])
    assert done_before == ["", "completed"]


async def test_the_empty_home_names_the_keys_that_fill_it(app: StudioApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        nothing = app.screen.query_one("#nothing")
        await until(pilot, lambda: nothing.display)
        assert "built-in data" in str(nothing.content)  # type: ignore[attr-defined]


async def test_the_status_line_shows_the_run_at_work(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    training = FakeTraining(steps=40, hold_at=20)
    monkeypatch.setitem(jobs.KINDS, "train", training)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        app.start(fake_run(app.workspace))
        line = app.screen.query_one(StatusLine)
        await until(pilot, lambda: "0001 fake" in line.render().plain and "19/40" in line.render().plain)
        training.let_go.set()
        await until(pilot, lambda: "Idle" in line.render().plain)


async def test_what_is_encoded_between_steps_is_not_the_runs_progress(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()

    def train(context: Context) -> Done:
        context.emit(Started("train", context.device, 0, 400))
        context.emit(StepDone(8, 0.3, 1e-4, 1.0, 4, 0.01))
        context.emit(Phase("Encoding pictures", 128, 128))
        while not held.wait(0.01) and not context.should_stop():
            pass
        return Done({"step": 8}, "stopped")

    monkeypatch.setitem(jobs.KINDS, "train", train)
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        app.start(fake_run(app.workspace))
        line = app.screen.query_one(StatusLine)
        await until(pilot, lambda: "Encoding pictures 128/128" in line.render().plain)
        assert " 8/400 " in line.render().plain
        assert "   2%" in line.render().plain
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        words = str(app.screen.query_one("#progress", Static).content)
        assert words.startswith("8 of 400 steps, encoding pictures 128/128")
        held.set()


def test_a_batchs_progress_is_its_tiles() -> None:
    state = RunState(JobFolder(Path("river")), "running", "generate", phase=Phase("Generating tiles", 3, 8, 12, 20))
    assert wording.progress(state) == (3, 8)
    assert wording.phase_beside(state) == "Generating tiles · step 12/20"


async def test_toasts_leave_the_status_line_free(app: StudioApp) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await looked(pilot)
        app.tell("Two lines\nof words.", "A toast")
        await until(pilot, lambda: app.screen.query("Toast"))
        toast, line = app.screen.query_one("Toast"), app.screen.query_one(StatusLine)
        await until(pilot, lambda: toast.region.height)
        assert toast.region.bottom <= line.region.y


async def test_help_fits_its_box(app: StudioApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen) and app.screen.query_one(Static).size.width)
        text = app.screen.query_one(Static)
        assert max(map(len, keys_of(app.screen_stack[0]).plain.splitlines())) <= text.size.width


async def test_a_live_run_without_a_step_says_that_it_is_on_its_way(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining(steps=3, hold_at=1)
    monkeypatch.setitem(jobs.KINDS, "train", training)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3")
        plot = app.screen.query_one(RunPlot)
        await until(pilot, lambda: "No steps yet" in plot.query_one(Words).said)
        app.start(fake_run(app.workspace))
        await until(pilot, lambda: plot.query_one(Words).said == "The first step is on its way.")
        training.let_go.set()
