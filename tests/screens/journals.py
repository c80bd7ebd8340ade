"""Folders of jobs as finished ones leave them: a journal, settings, tiles, checkpoints."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from studio import config, files, requests
from studio.control import Control
from studio.events import CheckpointSaved, Finished, MetricMeasured, Started, StepDone, Validated, to_record
from studio.images import save_tile
from studio.jobs import execute
from studio.settings import ImportSettings, TrainSettings
from studio.workspace import Workspace


class Record(config.Model):
    kind: str
    device: str = "cpu"
    settings: dict[str, Any]


def with_demo(workspace: Workspace, pictures: int = 14) -> None:
    settings = ImportSettings(source=f"demo:{pictures}", name="land-cover", format="demo", hold_out=4)
    assert execute(requests.import_job(workspace, settings), Control()).outcome == "completed"


def write_journal(folder: Path, events: list[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({**to_record(event), "time": 1e9 + place}) for place, event in enumerate(events)]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def write_tile(path: Path, recipe: dict[str, Any], shade: int = 60) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_tile(path, np.full((8, 8, 3), shade, np.uint8), recipe)


def with_run(workspace: Workspace, name: str, loss: float = 0.2, **optimiser: Any) -> Path:
    """A completed run of 20 steps, measured, probed and kept at 10 and at 20."""
    folder = workspace.runs / name
    settings = TrainSettings.model_validate({"data": {"name": "land-cover"}, "optimiser": optimiser})
    told = settings.model_dump(mode="json", exclude_none=True)
    events: list[Any] = [Started("train", "cpu", 0, 20)]
    for step in range(1, 21):
        events.append(StepDone(step, loss + 1 / step, 1e-4, 1.0, 4, 0.5))
        if step % 10 == 0:
            now = loss + (step == 20) * 0.01
            events.append(Validated(step, now, step == 10, [now * 2, now, now / 2, now / 4]))
            events.append(MetricMeasured("forgetting", step / 100, 0, 16, "scenes", "", "", None, step))
            events.append(MetricMeasured("diversity", 7.5, 0, 16, "scenes", "", "", None, step))
            events.append(CheckpointSaved(step, f"checkpoints/step-{step:06d}"))
            checkpoint = folder / "checkpoints" / f"step-{step:06d}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "state.json").write_text("{}")
            files.write_manifest(checkpoint)
    config.save(folder / "config.toml", Record(kind="train", settings=told))
    write_journal(folder, [*events, Finished("completed")])
    return folder
