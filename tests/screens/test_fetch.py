"""A model of the hub that is not here yet, from the form that names it; the hub is on loopback."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from screens.confirm import ConfirmScreen
from screens.fetch import FetchScreen
from screens.new_run import NewRunScreen, model_names
from screens.shell import StudioApp
from screens.widgets.form import Field
from screens.widgets.words import Words
from studio import config, jobs
from studio.workspace import STARTER, TEMPLATE
from tests.fakes import FakeTraining
from tests.screens.conftest import looked, until
from tests.screens.journals import with_demo
from tests.studio.hub_server import COMMIT, Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for variable in ("HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Hub(STARTER) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def with_lora(app: StudioApp) -> None:
    with_demo(app.workspace)
    shutil.copy(TEMPLATE / "recipes" / "lora.toml", app.workspace.recipes)


def base(app: StudioApp) -> Input:
    return next(one for one in app.screen.query(Field) if one.entry.path == ("base",)).query_one(Input)


async def with_form(pilot: Pilot[Any], hub: Hub) -> None:
    """Open the form of a run whose base is not here yet."""
    app = pilot.app
    assert isinstance(app, StudioApp)
    with_lora(app)
    await looked(pilot)
    await pilot.press("n")
    await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
    base(app).value = hub.hub_id
    await pilot.pause()


async def test_a_base_is_downloaded_once_that_was_agreed_to_and_the_run_begins_when_its_cost_was_seen(
    app: StudioApp, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=3))
    async with app.run_test(size=(120, 36)) as pilot:
        await with_form(pilot, hub)
        await pilot.press("ctrl+j")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert hub.hub_id in str(app.screen.query_one(".dialog").border_title)
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen), 60)
        await until(pilot, lambda: "steps of 16 pictures" in app.screen.query_one("#expectation", Words).said)
        assert list(app.workspace.runs.iterdir()) == []
        assert hub.hub_id in model_names(app)
        await pilot.press("ctrl+j")
        await until(pilot, lambda: app.current_mode == "train" and app.jobs("runs"))
        await until(pilot, lambda: app.jobs("runs")[0].state.status == "completed")
        told = config.read_toml(app.jobs("runs")[0].path / "config.toml")["settings"]
    assert told["base"] == f"{hub.hub_id}@{COMMIT}"


async def test_a_hub_that_says_no_leaves_the_form_as_it_was(app: StudioApp, hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    async with app.run_test(size=(120, 36)) as pilot:
        await with_form(pilot, hub)
        await pilot.press("ctrl+j")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, FetchScreen))
        await until(pilot, lambda: hub.hub_id in app.screen.query_one("#far", Words).said)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        assert base(app).value == hub.hub_id
        assert list(app.workspace.runs.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "text", "fault"),
    [("name", "Ünused name", "cannot be the name"), ("data", "no-such-set", "no-such-set")],
)
async def test_nothing_is_asked_of_the_hub_while_the_name_or_the_data_are_wrong(
    app: StudioApp, hub: Hub, field: str, text: str, fault: str
) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await with_form(pilot, hub)
        data = next(one for one in app.screen.query(Field) if one.entry.path == ("data", "name"))
        place = app.screen.query_one("#name", Input) if field == "name" else data.query_one(Input)
        place.value = text
        await pilot.press("ctrl+j")
        await until(pilot, lambda: fault in app.screen.query_one("#faults", Words).said)
        assert isinstance(app.screen, NewRunScreen)
        assert hub.requests == []


async def test_no_leaves_the_hub_alone(app: StudioApp, hub: Hub) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await with_form(pilot, hub)
        await pilot.press("ctrl+j")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        assert hub.requests == []
