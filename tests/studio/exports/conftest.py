from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio import images
from studio.control import Control
from studio.events import Event
from studio.jobs import Job, execute
from studio.runs import JobFolder
from studio.settings import ExportSettings
from studio.workspace import Workspace, next_numbered

CLASSES = ("water-body", "bare-land", "snow-ice")


def pixels(seed: int, size_px: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)


def make_batch(
    workspace: Workspace, name: str, prompts: Sequence[str], labels: Sequence[str] = (), size_px: int = 64
) -> Path:
    """A batch as generation leaves it: tiles with their recipes."""
    folder = workspace.batches / name
    (folder / "tiles").mkdir(parents=True)
    for index, prompt in enumerate(prompts, start=1):
        label = labels[index - 1] if labels else ""
        plan = {"index": index - 1, "prompt": prompt, "negative": "", "seed": 40 + index, "label": label}
        recipe = {**plan, "model": "starter", "sampler": "ddim", "steps": 20, "guidance": 4.0}
        tile = images.png_bytes(Image.fromarray(pixels(index, size_px)), recipe)
        (folder / "tiles" / f"{index:06d}.png").write_bytes(tile)  # not synced, which takes its time
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "workspace"
    root.mkdir()
    return Workspace(root)


@pytest.fixture
def run_export(workspace: Workspace) -> Callable[..., tuple[Any, list[Event]]]:
    """Export through `execute`, as every front does; gives how it ended and what it told."""

    def run(name: str, to: Any, target: Path, control: Control | None = None) -> tuple[Any, list[Event]]:
        settings = ExportSettings(name=name, to=to, target=str(target))
        folder = JobFolder(next_numbered(workspace.exports, f"{name}-{to}"))
        events: list[Event] = []
        finished = execute(Job("export", workspace, folder, settings), control or Control(), events.append)
        return finished, events

    return run
