"""Studios on workspaces of their own, and waiting for what a screen will show."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from screens.shell import StudioApp
from studio.session import Session
from studio.workspace import Workspace

SIZES = ((120, 36), (80, 24))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace without recipes, runs or data."""
    root = tmp_path / "work"
    for name in ("datasets", "runs", "batches", "evaluations", "collections", "recipes", "prompts"):
        (root / name).mkdir(parents=True)
    (root / "studio.toml").write_text("schema = 1\n")
    return Workspace(root)


@pytest.fixture
def app(workspace: Workspace) -> Any:
    session = Session(workspace)
    yield StudioApp(session)
    session.stop_all()
    session.wait(10)
    session.close()


async def until(pilot: Pilot[Any], holds: Callable[[], Any], seconds: float = 20.0) -> None:
    """Let the app run until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        await pilot.pause()
        await asyncio.sleep(0)


async def looked(pilot: Pilot[Any]) -> None:
    """Let the app run until it has read the workspace once."""
    await until(pilot, lambda: pilot.app.journals.has_looked)  # type: ignore[attr-defined]
    await pilot.pause()
