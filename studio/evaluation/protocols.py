"""Which pictures are compared with which, and what makes a comparison worthless."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.config import read_toml
from studio.datasets.dataset import Dataset, Picture, held_out_split, open_dataset, parse_reference
from studio.errors import UsageError
from studio.images import fit_square, open_picture
from studio.settings import EvaluateSettings
from studio.workspace import Workspace

FEW = 50  # below this many a side a figure is mostly its own bias
LARGEST_SHARE = 0.05  # of a set, that may be black-bordered or the same as the other set's pictures
BLACK, BRIGHT = 8, 48  # grey levels: a border no brighter than the first around pixels brighter than the second
JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Comparison:
    """Equally many tiles and real pictures, and further real pictures to compare the real ones with."""

    tiles: list[Path]
    real: list[Path]
    more_real: list[Path]
    """As many again, to measure real against real; fewer where the data set has no more."""
    dataset: str
    split: str
    split_sha256: str
    found_tiles: int
    found_real: int
    warnings: tuple[tuple[str, str], ...] = ()

    @property
    def n(self) -> int:
        return len(self.tiles)


def choose(workspace: Workspace, settings: EvaluateSettings) -> Comparison:
    """What is compared: N of each, where N is the size of the smaller set; who, is decided by the seed.

    Raises:
        UsageError: the batch, data set or split does not exist, or one has fewer than two pictures.
    """
    dataset, split = dataset_and_split(workspace, settings.real, settings.split)
    tiles = tile_paths(workspace, settings.generated)
    pictures = dataset.pictures(split)
    for count, what in ((len(tiles), f"The batch {settings.generated}"), (len(pictures), f"{dataset.name}:{split}")):
        if count < 2:
            raise UsageError(f"{what} has {count} pictures, too few to compare.", "Use at least 50.")
    random = np.random.default_rng(settings.seed)
    n = min(len(tiles), len(pictures))
    chosen = [tiles[index] for index in sorted(random.permutation(len(tiles))[:n])]
    real = [pictures[index] for index in random.permutation(len(pictures))]
    warnings: list[tuple[str, str]] = []
    more, borrowed = real[n : 2 * n], 0
    if len(more) < n:
        others = _others(dataset, split, {picture.sha256 for picture in pictures})
        kept = [others[index] for index in random.permutation(len(others))][: n - len(more)]
        more, borrowed = more + kept, len(kept)
    if borrowed:
        message = (
            f"{split} has too few pictures for two sets of {n}; the floor is measured with {borrowed} of other splits."
        )
        warnings.append((message, ""))
    if len(more) < n:
        message = f"{dataset.name} has {n + len(more)} pictures, too few to compare {n} real ones with {n} others."
        warnings.append((message, "The figures have no floor. Generate fewer tiles or import more pictures."))
    if n < FEW:
        warnings.append((f"{n} pictures a side say little.", f"Use at least {FEW}."))
    if f"{dataset.name}:{split}" in trained_on(workspace, settings.generated):
        message = f"The model of {settings.generated} was trained on {dataset.name}:{split}."
        warnings.append((message, "Compare with a held-out split."))
    paths = [dataset.path(picture) for picture in real[:n]]
    return Comparison(
        chosen,
        paths,
        [dataset.path(picture) for picture in more],
        dataset.name,
        split,
        dataset.split_sha256(split),
        len(tiles),
        len(pictures),
        tuple(warnings),
    )


def dataset_and_split(workspace: Workspace, reference: str, split: str = "") -> tuple[Dataset, str]:
    """The data set and the split of `rsicd` or `rsicd:valid`; where no split is named, the first that was held out.

    Raises:
        UsageError: one of them does not exist.
    """
    name, named = parse_reference(reference)
    dataset = open_dataset(workspace, name)
    return dataset, held_out_split(dataset, split or named)


def tile_paths(workspace: Workspace, batch: str) -> list[Path]:
    """The tiles of a batch, in order.

    Raises:
        UsageError: there is no such batch.
    """
    return sorted((workspace.batch(batch) / "tiles").glob("*.png"))


def trained_on(workspace: Workspace, batch: str) -> set[str]:
    """The data set and split, as `rsicd:train`, that the run behind a batch was trained on; empty where unknown."""
    model = _settings(workspace.batch(batch)).get("model", "")
    try:
        run = workspace.run(str(model).partition("@")[0])
    except UsageError:  # the starter model, or a folder from elsewhere
        return set()
    data = _settings(run).get("data", {})
    return {f"{data.get('name')}:{data.get('split')}"}


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.toml"
    values: dict[str, Any] = read_toml(path).get("settings", {}) if path.is_file() else {}
    return values


def _others(dataset: Dataset, split: str, known: set[str]) -> list[Picture]:
    return [
        picture
        for name in sorted(dataset.splits)
        if name != split
        for picture in dataset.pictures(name)
        if picture.sha256 not in known
    ]


@dataclass
class Look:
    """What is noticed while a set's pictures are read."""

    name: str
    count: int = 0
    smallest_px: int = 1 << 30
    black_borders: int = 0
    jpegs: int = 0
    digests: set[bytes] = field(default_factory=set)

    def read(self, path: Path, size_px: int) -> NDArray[np.uint8]:
        """A picture as (size_px, size_px, 3), noticed."""
        picture = open_picture(path)
        array = np.asarray(fit_square(picture, size_px), np.uint8)
        self.count += 1
        self.smallest_px = min(self.smallest_px, *picture.size)
        self.black_borders += has_black_border(array)
        self.jpegs += path.suffix.lower() in JPEG
        self.digests.add(hashlib.sha256(array.tobytes()).digest())
        return array


def has_black_border(picture: NDArray[np.uint8]) -> bool:
    """Whether a picture (height, width, 3) is framed in black, as padding leaves it; a dark picture is not."""
    edges = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    return all(int(edge.max()) <= BLACK for edge in edges) and int(picture.max()) > BRIGHT


def faults_of(tiles: Look, real: Sequence[Look], size_px: int) -> Iterable[tuple[str, str]]:
    """What people should know before they believe the figures: (message, hint) each.

    Raises:
        UsageError: the sets cannot be compared: padded with black, enlarged, or the same pictures on both sides.
    """
    for look in (tiles, *real):
        if look.count and look.smallest_px < size_px:
            raise UsageError(
                f"{look.name} has pictures of {look.smallest_px} px, which would be enlarged to {size_px} px.",
                f"Compare at {look.smallest_px} px or less.",
            )
        if look.black_borders > LARGEST_SHARE * look.count:
            raise UsageError(
                f"{look.black_borders} of the {look.count} pictures of {look.name} have a black border.",
                "Crop them; a distance would measure the border.",
            )
    same = len(tiles.digests & set[bytes]().union(*(look.digests for look in real)))
    if same > LARGEST_SHARE * tiles.count:
        raise UsageError(
            f"{same} of the {tiles.count} tiles are, pixel by pixel, pictures of {real[0].name}.",
            "Compare with pictures that the tiles were not made from.",
        )
    if same:
        yield f"{same} of the {tiles.count} tiles are, pixel by pixel, pictures of {real[0].name}.", ""
    if any(look.jpegs and look.smallest_px < 2 * size_px for look in real):
        yield "The real pictures are JPEG and the tiles are not, which adds to the distance.", ""
