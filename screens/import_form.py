"""Bringing pictures in: where they are, what the data set is called, and how its files are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from screens.form_screen import FormScreen
from studio.errors import SettingsError
from studio.settings import ImportSettings

if TYPE_CHECKING:
    from screens.shell import StudioApp

FORMATS = ["auto", "class-folders", "metadata-jsonl", "parquet", "folder", "demo"]


def ask_for_import(app: StudioApp) -> None:
    """Open the import form."""

    def begin(settings: ImportSettings) -> None:
        from studio import requests

        empty = [(name, "say which") for name in ("source", "name") if not getattr(settings, name).strip()]
        if empty:
            raise SettingsError("The form", empty)
        source = settings.source if settings.format == "demo" else str(Path(settings.source).expanduser())
        app.start(requests.import_job(app.workspace, settings.model_copy(update={"source": source})))
        app.call_later(app.switch_mode, "data")

    values = {"source": "", "name": ""}
    app.push_screen(FormScreen("Import data", ImportSettings, values, begin, {"format": FORMATS}))
