"""A tiny data set, and training runs on it that keep their events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from PIL import Image

from studio import files, requests
from studio.control import Control
from studio.events import Event, Finished
from studio.jobs import Job, execute
from studio.models import checkpoints
from studio.settings import OptimiserSettings, SavingSettings, TrainSettings
from studio.workspace import Workspace
from tests.studio.small_models import SIZE_PX, WORDS

SCRATCH = {"name": "scratch", "channels": [32, 64], "text_width": 32, "text_layers": 1, "vocabulary": 600}
AUTOENCODER = {"name": "autoencoder", "channels": [16, 24, 32], "latent_channels": 4}


def make_dataset(workspace: Workspace, train: int = 10, valid: int = 3, name: str = "set") -> Path:
    """A data set as an import leaves it: small coloured noise, two captions a picture, a class each."""
    folder = workspace.datasets / name
    (folder / "images").mkdir(parents=True)
    for index in range(train + valid):
        random = np.random.default_rng(index)
        blocks = random.integers(0, 256, (SIZE_PX // 4, SIZE_PX // 4, 3), dtype=np.uint8)
        path = folder / "images" / f"{index}.png"
        Image.fromarray(blocks.repeat(4, 0).repeat(4, 1)).save(path)
        word = WORDS[index % len(WORDS)]
        row = {"file_name": f"images/{path.name}", "captions": [f"one {word}", f"some {word} near a road"]}
        row |= {"label": word, "split": "train" if index < train else "valid", "sha256": files.sha256_of(path)}
        files.append_record(folder / "captions.jsonl", row | {"width_px": SIZE_PX, "height_px": SIZE_PX})
    splits = {"train": train} | ({"valid": valid} if valid else {})
    facts = {
        "name": name,
        "classes": list(WORDS),
        "splits": {split: {"pictures": count, "sha256": "0" * 64} for split, count in splits.items()},
    }
    files.write_text(folder / "dataset.toml", tomlkit.dumps(facts))
    return folder


def settings(base: str | Path, method: dict[str, Any] | None = None, steps: int = 4, **other: Any) -> TrainSettings:
    """Few small steps at 32 px; `other` goes over the optimiser's and the saving's settings by name."""
    optimiser = {"steps": steps, "batch": 2, "precision": "fp32", "learning_rate": 1e-3}
    saving = {
        "checkpoint_every": 2,
        "validate_every": 2,
        "validation_images": 3,
        "preview_every": 1000,
        "preview_prompts": [],
        "preview_steps": 20,
        "measure_every": 0,
        "keep_last": 2,
    }
    top: dict[str, Any] = {}
    for key, value in other.items():
        in_optimiser, in_saving = key in OptimiserSettings.model_fields, key in SavingSettings.model_fields
        (optimiser if in_optimiser else saving if in_saving else top)[key] = value
    data = {"name": "set", "size_px": SIZE_PX} | top.pop("data", {})
    return TrainSettings.model_validate(
        {"base": str(base), "method": method or {"name": "lora", "rank": 2, "alpha": 2.0}, "data": data}
        | {"optimiser": optimiser, "saving": saving}
        | top
    )


Watch = Callable[[Event, Control], None]


def ignore(event: Event, control: Control) -> None:
    """Do nothing."""


def run(job: Job, watch: Watch = ignore) -> tuple[Finished, list[Event]]:
    """Do a job as every front does; `watch` may ask its control for something at any event."""
    events: list[Event] = []
    control = Control(job.folder.control_path)

    def told(event: Event) -> None:
        events.append(event)
        watch(event, control)

    return execute(job, control, told), events


def train(
    workspace: Workspace, told: TrainSettings, name: str, watch: Watch = ignore
) -> tuple[Finished, list[Event], Path]:
    job = requests.train_job(workspace, told, name)
    return *run(job, watch), job.folder.path


def resume(workspace: Workspace, name: str) -> tuple[Finished, list[Event]]:
    return run(requests.resume_job(workspace, name))


def newest(run_folder: Path) -> Path:
    checkpoint = checkpoints.newest(run_folder)
    assert checkpoint is not None
    return checkpoint


def weights_of(run_folder: Path) -> bytes:
    """Everything that the next step depends on, byte for byte: weights, averages, the optimiser's state."""
    return (newest(run_folder) / checkpoints.TRAINING_FILE).read_bytes()
