"""What a downstream study trains on and tests with."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studio.datasets.dataset import Dataset, Picture
from studio.errors import UsageError
from studio.evaluation.labels import class_of
from studio.evaluation.protocols import dataset_and_split, tile_paths, trained_on
from studio.images import read_recipe
from studio.settings import DownstreamSettings
from studio.workspace import Workspace

TRAINING_SPLIT = "train"


@dataclass(frozen=True)
class Study:
    """What is trained on and tested with: files, each with the index of its class."""

    classes: list[str]
    tiles: list[tuple[Path, int]]
    real: list[tuple[Path, int]]
    test: list[tuple[Path, int]]
    dataset: str
    split: str
    split_sha256: str
    warnings: tuple[tuple[str, str], ...]

    @property
    def arms(self) -> dict[str, str]:
        """Every arm with what it is trained on; without real training pictures there is only one."""
        tiles, real = f"{len(self.tiles)} tiles", f"{len(self.real)} real"
        if not self.real:
            return {"synthetic": tiles}
        both, turned = f"{tiles} and {real}", f"{real}, turned and flipped"
        return {"synthetic": tiles, "real": real, "both": both, "real-d4": turned}


def plan(workspace: Workspace, settings: DownstreamSettings) -> Study:
    """Choose classes, training and test pictures: as many real training pictures of each class as there are tiles.

    Raises:
        UsageError: a name does not exist, or fewer than two classes are in both sets.
    """
    dataset, split = dataset_and_split(workspace, settings.real)
    test = [picture for picture in dataset.pictures(split) if picture.label]
    paths = tile_paths(workspace, settings.synthetic)
    labelled = [(path, class_of(read_recipe(path), dataset.classes)) for path in paths]
    found = {label for _, label in labelled if label}
    classes = sorted(found & {picture.label for picture in test})
    if len(classes) < 2:
        raise UsageError(
            f"{settings.synthetic} and {dataset.name}:{split} share {len(classes)} classes, and two are needed.",
            "Generate tiles whose prompts name the classes of the data set.",
        )
    tiles = [(path, classes.index(label)) for path, label in labelled if label in classes]
    test = [picture for picture in test if picture.label in classes]
    real = _as_many(dataset, split, test, classes, Counter(index for _, index in tiles), settings.seed)
    warnings = []
    if len(tiles) < len(labelled):
        left = len(labelled) - len(tiles)
        message = f"{left} of {len(labelled)} tiles show no class of {dataset.name}:{split} and are left out."
        warnings.append((message, ""))
    if not real:
        message = f"{dataset.name} has no labelled {TRAINING_SPLIT} split beside {split}, so only tiles are trained on."
        warnings.append((message, "Import it with --hold-out to have both."))
    elif len(real) < len(tiles):
        message = f"{dataset.name} has {len(real)} real training pictures for {len(tiles)} tiles; the budgets differ."
        warnings.append((message, "Generate fewer tiles of the classes that are rare."))
    if f"{dataset.name}:{split}" in trained_on(workspace, settings.synthetic):
        message = f"The model of {settings.synthetic} was trained on {dataset.name}:{split}, which is tested on."
        warnings.append((message, "Test on a held-out split."))
    return Study(
        classes,
        tiles,
        [(dataset.path(picture), classes.index(picture.label)) for picture in real],
        [(dataset.path(picture), classes.index(picture.label)) for picture in test],
        dataset.name,
        split,
        dataset.split_sha256(split),
        tuple(warnings),
    )


def _as_many(
    dataset: Dataset, split: str, test: list[Picture], classes: list[str], wanted: Counter[int], seed: int
) -> list[Picture]:
    """Real training pictures, of each class as many as wanted where there are; none is also tested on."""
    if split == TRAINING_SPLIT or TRAINING_SPLIT not in dataset.splits:
        return []
    tested = {picture.sha256 for picture in test}
    pictures = [picture for picture in dataset.pictures(TRAINING_SPLIT) if picture.sha256 not in tested]
    chosen = []
    for index, label in enumerate(classes):
        of_class = [picture for picture in pictures if picture.label == label]
        order = np.random.default_rng([seed, index]).permutation(len(of_class))
        chosen += [of_class[place] for place in order[: wanted[index]]]
    return chosen
