"""Taking a data set, batch, collection or run out of the workspace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from screens import run_facts
from screens.form_screen import FormScreen
from studio.errors import SettingsError
from studio.settings import RUN_FORMS, ExportSettings

if TYPE_CHECKING:
    from screens.shell import StudioApp
    from studio.jobs import Job


def ask_for_export(app: StudioApp, name: str, form: str = "image-folder") -> None:
    """Open the export form for something of the workspace."""

    def begin(settings: ExportSettings) -> None:
        from studio import requests

        if not settings.target.strip():
            raise SettingsError("The form", [("target", "say where")])
        target = str(Path(settings.target).expanduser())
        told = settings.model_copy(update={"target": target})
        if told.to in RUN_FORMS:
            _begin_late(app, told)
        else:
            app.start(requests.export_job(app.workspace, told))
        app.tell(f"Writing {told.name} to {target}.")

    forms = get_args(ExportSettings.model_fields["to"].annotation)
    fitting = [one for one in forms if (one in RUN_FORMS) == (form in RUN_FORMS)]
    values = {"name": name, "to": form, "target": str(Path.home() / "exports" / name)}
    app.push_screen(FormScreen("Write out", ExportSettings, values, begin, {"to": fitting}))


def ask_for_run_export(app: StudioApp, run: Path, step: int | None = None) -> None:
    """Open the export form for a run, or for one of its checkpoints."""
    form = "adapter" if run_facts.setting(run, "method", "name") == "lora" else "model"
    ask_for_export(app, run.name if step is None else f"{run.name}@{step}", form)


def _begin_late(app: StudioApp, settings: ExportSettings) -> None:
    """Whether a run's weights can be written needs PyTorch to say, which the interface does not wait for."""
    from studio import requests

    requests.check_export_target(settings)

    def made() -> Iterator[Job]:
        yield requests.export_job(app.workspace, settings)

    app.start_series(made())
