from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomlkit

from studio import files, images
from studio.control import Control
from studio.events import Event, Finished
from studio.jobs import Job, execute
from studio.runs import JobFolder
from studio.settings import DownstreamSettings, EvaluateSettings
from studio.workspace import Workspace, make_workspace, next_numbered
from tests.studio.measures.small_networks import make_starter

CLASSES = ("bare land", "forest", "water body")
COLOURS = {"bare land": (190, 150, 100), "forest": (30, 110, 40), "water body": (20, 60, 160)}


def picture(label: str, seed: int, size_px: int = 32, noise: int = 12) -> np.ndarray:
    """A noisy patch of its class's colour."""
    random = np.random.default_rng([seed, len(label)])
    array = np.array(COLOURS[label]) + random.normal(0, noise, (size_px, size_px, 3))
    return np.clip(array, 0, 255).astype(np.uint8)


def make_dataset(
    workspace: Workspace, name: str, splits: dict[str, int], size_px: int = 32, suffix: str = "png"
) -> Path:
    """A data set as an import leaves it, with so many pictures of each class in each split."""
    folder = workspace.datasets / name
    (folder / "images").mkdir(parents=True)
    for place, (split, count) in enumerate(splits.items()):
        for number in range(count * len(CLASSES)):
            label = CLASSES[number % len(CLASSES)]
            array = picture(label, 1000 * (place + 1) + number, size_px)
            add_picture(folder, array, label, split, f"{split}_{number:03d}.{suffix}")
    finish_dataset(folder, {split: count * len(CLASSES) for split, count in splits.items()})
    return folder


def add_picture(folder: Path, array: np.ndarray, label: str, split: str, name: str) -> None:
    from PIL import Image

    path = folder / "images" / name
    Image.fromarray(array).save(path, quality=95)
    row = {"file_name": f"images/{name}", "captions": [], "label": label, "split": split}
    row |= {"sha256": files.sha256_of(path), "width_px": array.shape[1], "height_px": array.shape[0], "source": name}
    files.append_record(folder / "captions.jsonl", row)


def finish_dataset(folder: Path, splits: dict[str, int]) -> None:
    facts = {
        "name": folder.name,
        "classes": list(CLASSES),
        "splits": {split: {"pictures": count, "sha256": f"{split:0>64}"} for split, count in splits.items()},
    }
    files.write_text(folder / "dataset.toml", tomlkit.dumps(facts))


def make_batch(workspace: Workspace, name: str, tiles: Sequence[tuple[np.ndarray, dict[str, Any]]]) -> Path:
    """A batch as generation leaves it: tiles with their recipes."""
    folder = workspace.batches / name
    (folder / "tiles").mkdir(parents=True)
    for number, (array, recipe) in enumerate(tiles, start=1):
        images.save_tile(folder / "tiles" / f"{number:06d}.png", array, {"prompt": "", "label": "", **recipe})
    return folder


def tiles_of_classes(count: int, size_px: int = 32, seed: int = 50) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """So many tiles of each class, their label in the recipe."""
    labels = [CLASSES[number % len(CLASSES)] for number in range(count * len(CLASSES))]
    return [(picture(label, seed + number, size_px), {"label": label}) for number, label in enumerate(labels)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_starter(tmp_path_factory.mktemp("starter"))


@pytest.fixture
def _tiny_starter(starter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.measures.features.STARTER", starter)


Run = Callable[..., tuple[Finished, list[Event], JobFolder]]


def do(
    workspace: Workspace,
    settings: EvaluateSettings | DownstreamSettings,
    control: Control | None = None,
    folder: JobFolder | None = None,
) -> tuple[Finished, list[Event], JobFolder]:
    """Do a job through `execute`, as every front does; gives how it ended, what it told, and its folder."""
    kind = "evaluate" if isinstance(settings, EvaluateSettings) else "downstream"
    folder = folder or JobFolder(next_numbered(workspace.evaluations, kind))
    events: list[Event] = []
    finished = execute(Job(kind, workspace, folder, settings), control or Control(), events.append)
    return finished, events, folder


@pytest.fixture
def run(workspace: Workspace) -> Run:
    """`do` in the workspace of the test."""
    return partial(do, workspace)
