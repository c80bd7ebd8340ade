"""A model of the hub that is not here yet, from the form that names it; the hub is on loopback."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from textual.widgets import Input

from screens.fetch import FetchScreen
from screens.new_run import NewRunScreen
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


async def test_a_run_downloads_its_base_and_begins(app: StudioApp, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.KINDS, "train", FakeTraining(steps=3))
    with_lora(app)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        base(app).value = hub.hub_id
        await pilot.pause()
        await pilot.press("ctrl+j")
        await until(pilot, lambda: app.current_mode == "train" and app.jobs("runs"), 60)
        await until(pilot, lambda: app.jobs("runs")[0].state.status == "completed")
        told = config.read_toml(app.jobs("runs")[0].path / "config.toml")["settings"]
    assert told["base"] == f"{hub.hub_id}@{COMMIT}"


async def test_a_hub_that_says_no_leaves_the_form_as_it_was(app: StudioApp, hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    with_lora(app)
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        base(app).value = hub.hub_id
        await pilot.pause()
        await pilot.press("ctrl+j")
        await until(pilot, lambda: isinstance(app.screen, FetchScreen))
        await until(pilot, lambda: hub.hub_id in app.screen.query_one("#far", Words).said)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        assert base(app).value == hub.hub_id
        assert list(app.workspace.runs.iterdir()) == []
