import pytest
from textual.widgets import Input

from screens.form_screen import FormScreen
from screens.shell import StudioApp
from screens.widgets.event_log import EventLog
from screens.widgets.form import Field
from screens.widgets.key_line import KeyLine
from screens.widgets.loss_plot import LossPlot
from screens.widgets.picture import Picture
from screens.widgets.words import Words
from studio import jobs, requests
from studio.context import Done
from studio.control import Control
from studio.exports import export
from studio.jobs import execute
from tests.fakes import FakeTraining, fake_run
from tests.screens.conftest import SIZES, looked, until


@pytest.mark.parametrize("size", SIZES)
async def test_a_run_is_paused_resumed_saved_previewed_and_stopped_by_keys(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    training = FakeTraining(steps=40, hold_at=12)
    monkeypatch.setitem(jobs.KINDS, "train", training)
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("3")
        app.start(fake_run(app.workspace))
        await until(pilot, lambda: app.live_jobs() and app.live_jobs()[0].state.step == 11)
        state = app.live_jobs()[0].state
        await pilot.press("s")
        await until(pilot, lambda: state.checkpoints)
        await pilot.press("v")
        await until(pilot, lambda: len(state.previews) == 2)
        await pilot.press("space")
        await until(pilot, lambda: state.status == "paused")
        await until(pilot, lambda: "space Resume" in _keys(app))
        await until(pilot, lambda: "paused" in _text(app, "#speed") or "paused" in _log(app))
        await pilot.press("space")
        await until(pilot, lambda: state.status == "running")
        await pilot.press("x")
        await until(pilot, lambda: state.status == "stopped")
        await until(pilot, lambda: "stopped" in _log(app))


async def test_a_stopped_run_is_resumed_with_one_key(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    training = FakeTraining(steps=20, hold_at=12)
    monkeypatch.setitem(jobs.KINDS, "train", training)
    job = fake_run(app.workspace)
    monkeypatch.setattr(requests, "resume_job", lambda workspace, name: job)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3")
        app.start(job)
        await until(pilot, lambda: app.live_jobs() and app.live_jobs()[0].state.step == 11)
        state = app.live_jobs()[0].state
        await pilot.press("x")
        await until(pilot, lambda: state.status == "stopped")
        training.let_go.set()
        await until(pilot, lambda: "r resumes" in str(app.screen.query_one("#settings").border_subtitle))
        await pilot.press("r")
        await until(pilot, lambda: state.status == "completed")


async def test_curve_settings_previews_and_events_are_shown(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=40))
    execute(fake_run(app.workspace), Control())
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3")
        await until(pilot, lambda: app.screen.query(LossPlot))
        assert "learning rate" in _text(app, "#told")
        await until(pilot, lambda: app.screen.query(Picture) and app.screen.query(Picture).first().path is not None)
        assert app.screen.query(Picture).first().path.name == "000040-00.png"
        await pilot.press("left")
        assert app.screen.query(Picture).first().path.name == "000030-00.png"
        assert "validation loss" in _log(app)
        await pilot.press("right_square_bracket", "z")
        await pilot.pause()
        assert not app.screen.query_one("#left").display


async def test_a_failed_run_says_why_and_what_to_do(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=40, fails_at=3))
    execute(fake_run(app.workspace), Control())
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await until(pilot, lambda: "Halve the batch." in _text(app, "#fate"))
        assert "cpu ran out of memory." in _text(app, "#fate")


@pytest.mark.parametrize("size", [*SIZES, (70, 24)])
async def test_the_screen_says_which_run_it_shows_and_how_that_stands(
    app: StudioApp, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=4))
    execute(fake_run(app.workspace), Control())
    async with app.run_test(size=size) as pilot:
        await looked(pilot)
        await pilot.press("3")
        frame = "#settings" if size[0] > 100 else "#speed"
        await until(pilot, lambda: "0001 fake" in str(app.screen.query_one(frame).border_title))
        assert app.screen.query_one(frame).display
        assert "completed" in str(app.screen.query_one(frame).border_subtitle)
        await pilot.resize_terminal(120, 36)
        await until(pilot, lambda: str(app.screen.query_one("#speed").border_title) == "Speed")


async def test_keys_that_act_are_shown_where_not_all_have_room(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=4))
    execute(fake_run(app.workspace), Control())
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("3")
        await until(pilot, lambda: app.screen.query(LossPlot))
        await until(pilot, lambda: "n New " in _keys(app))
        for part in ("b Probe", "c Checkpoints", "e Copy", "z Zoom", "? Help"):
            assert part in _keys(app)
        assert "Stop" not in _keys(app)


async def test_a_run_is_written_out_in_a_form_that_suits_it(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=4))
    monkeypatch.setitem(jobs.KINDS, "export", lambda context: Done({"files": 0}))
    monkeypatch.setattr(export, "_check_run", lambda workspace, settings: None)  # imports torch
    execute(fake_run(app.workspace), Control())
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot)
        await pilot.press("3")
        await until(pilot, lambda: app.screen.query(LossPlot))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, FormScreen))
        fields = {one.entry.path[-1]: one for one in app.screen.query(Field)}
        assert (fields["name"].text, fields["to"].text) == ("0001-fake", "adapter")
        target = fields["target"].query_one(Input)
        target.value = str(app.workspace.root)
        await pilot.press("ctrl+j")
        await until(pilot, lambda: "is there already" in app.screen.query_one("#faults", Words).said)
        target.value = str(app.workspace.root / "taken-out")
        await pilot.press("ctrl+j")
        await until(pilot, lambda: list(app.workspace.exports.glob("*-0001-fake-adapter")) and not app.waiting)


async def test_keys_that_cannot_act_are_dim(app: StudioApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=4))
    execute(fake_run(app.workspace), Control())
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3")
        await until(pilot, lambda: app.screen.query(LossPlot))
        enabled = {binding.binding.key: binding.enabled for binding in app.screen.active_bindings.values()}
        assert not enabled["x"]
        assert not enabled["r"]
        assert enabled["n"]


def _text(app: StudioApp, selector: str) -> str:
    return app.screen.query_one(selector, Words).said


def _keys(app: StudioApp) -> str:
    return app.screen.query_one(KeyLine).render().plain


def _log(app: StudioApp) -> str:
    return app.screen.query_one(EventLog).query_one(Words).said
