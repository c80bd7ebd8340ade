"""Taking a data set, batch, collection or run out of the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from screens.form_screen import FormScreen
from studio.errors import SettingsError
from studio.settings import ExportSettings

if TYPE_CHECKING:
    from screens.shell import StudioApp


def ask_for_export(app: StudioApp, name: str, form: str = "image-folder") -> None:
    """Open the export form for something of the workspace."""

    def begin(settings: ExportSettings) -> None:
        from studio import requests

        if not settings.target.strip():
            raise SettingsError("The form", [("target", "say where")])
        target = str(Path(settings.target).expanduser())
        app.start(requests.export_job(app.workspace, settings.model_copy(update={"target": target})))
        app.tell(f"Writing {name} to {target}.")

    target = Path.home() / "exports" / name
    app.push_screen(FormScreen("Write out", ExportSettings, {"name": name, "to": form, "target": str(target)}, begin))
