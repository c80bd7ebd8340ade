"""A Weights & Biases run kept in the run's folder; nothing is sent until a person runs `wandb sync` on it."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any  # wandb is there only where it was asked for

from studio.errors import UsageError
from studio.settings import TrainSettings
from studio.training.curves import Row

PROJECT = "rs-studio"


class WandbLog:
    """One offline run for each attempt, which holds all that earlier ones left too; those not sent are deleted.

    Raises:
        UsageError: wandb is not installed.
    """

    def __init__(self, folder: Path, settings: TrainSettings) -> None:
        if find_spec("wandb") is None:
            raise UsageError("The log wandb needs a library that is not installed.", "pip install 'rs-studio[wandb]'")
        self._folder = folder
        self._settings = settings
        self._run: Any = None

    def begin(self, rows: list[Row]) -> None:
        import wandb

        self.close()
        earlier = [path for path in self._folder.glob("wandb/offline-run-*") if not list(path.glob("*.synced"))]
        self._run = wandb.init(
            project=PROJECT,
            name=self._folder.name,
            dir=self._folder,
            mode="offline",
            config=self._settings.model_dump(mode="json") | {"base": Path(self._settings.base).name},
            # Of this machine, its keys and its code nothing goes along, and nothing is printed over a screen.
            settings=wandb.Settings(
                silent=True, console="off", host="", disable_git=True, disable_code=True, save_code=False,
                x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True,
            ),
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")
        for row in rows:
            self.add(row.step, row.at, row.values)
        for path in earlier:
            shutil.rmtree(path, ignore_errors=True)

    def add(self, step: int, at: float, values: dict[str, float]) -> None:
        # The step is a figure among others, since several looks at one step are told one after the other.
        self._run.log({"step": step, "time": at, **values})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
