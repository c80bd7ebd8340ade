import pytest

from screens.shell import StudioApp
from screens.widgets.event_log import EventLog
from screens.widgets.loss_plot import LossPlot
from screens.widgets.picture import Picture
from screens.widgets.words import Words
from studio import jobs, requests
from studio.control import Control
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


def _log(app: StudioApp) -> str:
    return app.screen.query_one(EventLog).query_one(Words).said
