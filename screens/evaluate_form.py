"""What is measured against what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from screens.form_screen import FormScreen
from studio.datasets.dataset import finished_datasets
from studio.errors import StudioError
from studio.settings import DownstreamSettings, EvaluateSettings
from studio.workspace import folders

if TYPE_CHECKING:
    from screens.shell import StudioApp


def ask_for_evaluation(
    app: StudioApp,
    model: type[EvaluateSettings] | type[DownstreamSettings],
    side: Literal["generated", "synthetic"],
) -> None:
    """Open the form of an evaluation or of a classifier study, filled with the newest batch and the first data set."""
    try:
        sets = [dataset.name for dataset in finished_datasets(app.workspace)]
    except StudioError as error:
        app.tell_error(error)
        return
    batches = [job.path.name for job in app.jobs("batches")] or [path.name for path in folders(app.workspace.batches)]
    if not batches or not sets:
        missing = "4 makes tiles from a prompt." if sets else "2, then i, brings real pictures in."
        app.tell(missing, "There is nothing to measure yet", "warning")
        return

    def begin(settings: EvaluateSettings | DownstreamSettings) -> None:
        from studio import requests

        if isinstance(settings, EvaluateSettings):
            app.start(requests.evaluate_job(app.workspace, settings, app.session.device))
        else:
            app.start(requests.downstream_job(app.workspace, settings, app.session.device))

    title = "Evaluate tiles" if model is EvaluateSettings else "Train a classifier"
    newest = max(app.jobs("batches"), key=lambda job: job.state.started_at, default=None)
    values = {side: newest.path.name if newest else batches[0], "real": sets[0]}
    app.push_screen(FormScreen(title, model, values, begin, {side: batches, "real": sets}))
