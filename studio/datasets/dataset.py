"""An imported data set: its pictures, captions, classes and splits, read from its folder."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from studio import config, files
from studio.datasets.splits import MEASURED
from studio.errors import StudioError, UsageError, unknown
from studio.workspace import Workspace

CAPTIONS = "captions.jsonl"
FACTS = "dataset.toml"
IMAGES = "images"


@dataclass(frozen=True)
class Picture:
    """One picture; `file_name` is relative to the data set's folder, `extra` holds whatever else its source said."""

    file_name: str
    captions: tuple[str, ...]
    label: str
    split: str
    sha256: str
    width_px: int
    height_px: int
    source: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class Dataset:
    """A finished data set. `dataset.toml` is written last, so where it is, all the rest is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = config.read_toml(folder / FACTS)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def splits(self) -> dict[str, int]:
        """How many pictures each split has."""
        return {name: int(split["pictures"]) for name, split in self.facts["splits"].items()}

    @property
    def classes(self) -> list[str]:
        return [str(name) for name in self.facts["classes"]]

    def pictures(self, split: str | None = None) -> list[Picture]:
        """The pictures of a split, or all, in the order of their import.

        Raises:
            UsageError: there is no such split.
        """
        if split is None:
            return list(self._pictures)
        if split not in self.splits:
            raise unknown(f"split of {self.name}", split, self.splits)
        return [picture for picture in self._pictures if picture.split == split]

    def path(self, picture: Picture) -> Path:
        return self.folder / picture.file_name

    def split_sha256(self, split: str) -> str:
        """What identifies the pictures of a split, beside every figure measured on it."""
        if split not in self.splits:
            raise unknown(f"split of {self.name}", split, self.splits)
        return str(self.facts["splits"][split]["sha256"])

    @cached_property
    def _pictures(self) -> tuple[Picture, ...]:
        try:
            return tuple(map(picture_of, files.read_records(self.folder / CAPTIONS)))
        except (KeyError, TypeError, ValueError):
            raise StudioError(
                f"{CAPTIONS} of the data set {self.name} is damaged.", "Look at it with: rs-studio WS check --deep"
            ) from None


def picture_of(row: dict[str, Any]) -> Picture:
    """A picture from its row of captions.jsonl."""
    known = {**row}
    return Picture(
        file_name=str(known.pop("file_name")),
        captions=tuple(map(str, known.pop("captions"))),
        label=str(known.pop("label")),
        split=str(known.pop("split")),
        sha256=str(known.pop("sha256")),
        width_px=int(known.pop("width_px")),
        height_px=int(known.pop("height_px")),
        source=str(known.pop("source", "")),
        extra=known,
    )


def open_dataset(workspace: Workspace, name: str) -> Dataset:
    """The data set of a name.

    Raises:
        UsageError: there is none, or its import has not been finished.
    """
    folder = workspace.dataset(name)
    if not (folder / FACTS).is_file():
        raise UsageError(
            f"The import of the data set {name} is unfinished.", "Import it again with the same arguments."
        )
    return Dataset(folder)


def finished_datasets(workspace: Workspace) -> list[Dataset]:
    """Every data set that can be used, by name."""
    if not workspace.datasets.is_dir():
        return []
    return [Dataset(path.parent) for path in sorted(workspace.datasets.glob(f"[!.]*/{FACTS}"))]


def parse_reference(text: str) -> tuple[str, str]:
    """The data set and the split of `rsicd:valid`; the split is empty where none is named."""
    name, _, split = text.partition(":")
    return name, split


def held_out_split(dataset: Dataset, wanted: str = "") -> str:
    """The split to measure on: the wanted one, else the first that was kept from training.

    Raises:
        UsageError: there is no such split.
    """
    if wanted:
        if wanted not in dataset.splits:
            raise unknown(f"split of {dataset.name}", wanted, dataset.splits)
        return wanted
    found = next((name for name in MEASURED if name in dataset.splits), None)
    if found is None:
        raise UsageError(
            f"The data set {dataset.name} has no split kept from training; it has {listed(dataset.splits)}.",
            "Import it again with --hold-out 500, or name a split.",
        )
    return found


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
