"""Kinds of jobs that only report: canned events through the real `execute`, held and let go by a test."""

import threading
from typing import Any

from PIL import Image

from studio import config
from studio.config import Model
from studio.context import Context, Done
from studio.errors import StudioError
from studio.events import CheckpointSaved, ImageSaved, Phase, PreviewSaved, Started, StepDone, Validated
from studio.jobs import Job
from studio.runs import JobFolder
from studio.settings import TrainSettings
from studio.workspace import Workspace, next_numbered


class FakeTraining:
    """Trains nothing: one event a step, a preview and a validation every tenth; holds at a step until let go."""

    def __init__(self, steps: int = 40, hold_at: int = 0, fails_at: int = 0) -> None:
        self.steps, self.hold_at, self.fails_at = steps, hold_at, fails_at
        self.arrived, self.let_go = threading.Event(), threading.Event()

    def __call__(self, context: Context) -> Done:
        context.emit(Started("train", context.device, 0, self.steps))
        context.emit(Phase("Loading PyTorch"))
        for step in range(1, self.steps + 1):
            if step == self.hold_at:
                self._hold(context, step)
            if context.should_stop(step):
                context.emit(CheckpointSaved(step, f"checkpoints/step-{step:06d}"))
                return Done({"step": step}, "stopped")
            if step == self.fails_at:
                raise StudioError("cpu ran out of memory.", "Halve the batch.")
            self._do(context, step)
        return Done({"step": self.steps})

    def _hold(self, context: Context, step: int) -> None:
        """Stay between two steps as a long step would, but obey."""
        self.arrived.set()
        while not self.let_go.wait(0.01):
            self._obey(context, step)
            if context.should_stop(step):
                return

    def _do(self, context: Context, step: int) -> None:
        context.emit(StepDone(step, 1.0 / step, 1e-4, 1.0, 4, 0.01))
        if step % 10 == 0:
            context.emit(Validated(step, 1.1 / step, best=True))
            self._preview(context, step)
        self._obey(context, step)

    def _obey(self, context: Context, step: int) -> None:
        if context.control.take("save"):
            context.emit(CheckpointSaved(step, f"checkpoints/step-{step:06d}"))
        if context.control.take("preview"):
            self._preview(context, step)

    def _preview(self, context: Context, step: int) -> None:
        path = context.folder.previews / f"{step:06d}-00.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (40, 90, step % 255)).save(path)
        context.emit(PreviewSaved(step, f"previews/{path.name}", "a river", 1))


def fake_generation(context: Context) -> Done:
    """Makes plain tiles, as many as its settings say."""
    count = int(context.settings.count)  # type: ignore[attr-defined]
    context.emit(Started("generate", context.device))
    tiles = context.folder.path / "tiles"
    tiles.mkdir(exist_ok=True)
    for index in range(count):
        Image.new("RGB", (8, 8), (index, 80, 40)).save(tiles / f"{index:06d}.png")
        context.emit(ImageSaved(index, f"tiles/{index:06d}.png", 42 + index, "", "a river"))
        context.emit(Phase("Generating", index + 1, count))
    return Done({"saved": count})


class _Record(Model):
    kind: str
    device: str
    settings: dict[str, Any]


def fake_run(workspace: Workspace, name: str = "fake") -> Job:
    """A new training run whose kind a test has replaced."""
    folder = JobFolder(next_numbered(workspace.runs, name))
    settings = TrainSettings()
    config.save(folder.config_path, _Record(kind="train", device="cpu", settings=settings.model_dump(mode="json")))
    return Job("train", workspace, folder, settings, "cpu")
