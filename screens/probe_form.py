"""What a model knows before it is trained, by fixed prompts that stay the same from model to model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from screens import wording
from screens.form_screen import FormScreen
from screens.new_run import model_names
from studio.datasets.dataset import finished_datasets
from studio.settings import ProbeSettings

if TYPE_CHECKING:
    from screens.shell import StudioApp


class ProbeScreen(FormScreen):
    """The form of a probe; its tiles become a batch like any other."""

    MODEL = "model"

    def __init__(self, app: StudioApp) -> None:
        names = [dataset.name for dataset in finished_datasets(app.workspace)]
        values = {"model": "starter", "data": names[0] if names else ""}
        super().__init__(
            "Probe a model", ProbeSettings, values, self._start, {"model": model_names(app), "data": names}
        )
        self._owner = app

    def _start(self, settings: ProbeSettings) -> None:
        from studio import requests

        app = self._owner
        job = requests.probe_job(app.workspace, settings, device=app.session.device)
        app.start(job)
        each = f"{wording.count(settings.count, 'tile')} of each prompt"
        app.tell(f"{each}. 5 shows them as they come.", job.folder.path.name)
