"""Putting tiles into a collection, new or known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from screens import wording
from screens.form_screen import FormScreen
from studio import collections
from studio.config import Model
from studio.workspace import folders

if TYPE_CHECKING:
    from screens.shell import StudioApp


class CollectSettings(Model):
    """Where tiles are put."""

    name: str = Field(min_length=1)
    """The collection; a new name makes a new one."""
    title: str = ""
    """What a new collection is called."""


def ask_for_collection(app: StudioApp, tiles: list[Path]) -> None:
    """Ask which collection tiles go to, and put them there."""
    known = [path.name for path in folders(app.workspace.collections)]

    def begin(settings: CollectSettings) -> None:
        collection = collections.add(app.workspace, settings.name, tiles, settings.title)
        app.tell(f"{settings.name} holds {wording.count(len(collection.tiles), 'tile')}.")

    values = {"name": known[0] if known else ""}
    title = f"Collect {wording.count(len(tiles), 'tile')}"
    app.push_screen(FormScreen(title, CollectSettings, values, begin, {"name": known}))
