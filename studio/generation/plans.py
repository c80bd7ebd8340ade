"""Which tiles a batch is to hold: prompts with their choices written out, counted, and given seeds; without torch."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import tomli

from studio import files
from studio.datasets.dataset import held_out_split, open_dataset, parse_reference
from studio.errors import UsageError, unknown
from studio.prompts.book import load_book
from studio.prompts.choices import expand
from studio.workspace import Workspace, folders, slug

PLAN_FILE = "plan.jsonl"


@dataclass(frozen=True)
class PromptLine:
    """One prompt to make tiles from; `label` is the class that the tile should belong to."""

    prompt: str
    negative: str = ""
    label: str = ""


@dataclass(frozen=True)
class PlannedTile:
    """One tile to make."""

    index: int
    prompt: str
    negative: str
    seed: int
    label: str


def plan_tiles(lines: Sequence[PromptLine], count: int, seed: int) -> list[PlannedTile]:
    """Tiles of prompts taken in turn, tile n from seed + n; a count of 0 makes one for each prompt, choices apart."""
    written = [PromptLine(text, line.negative, line.label) for line in lines for text in expand(line.prompt)]
    total = count or len(written)
    chosen = [written[index % len(written)] for index in range(total)]
    return [PlannedTile(n, line.prompt, line.negative, seed + n, line.label) for n, line in enumerate(chosen)]


def read_prompts(workspace: Workspace, source: str, negative: str = "") -> list[PromptLine]:
    """Prompts of a text file (one a line), a .jsonl (prompt, negative, label), a book, or DATASET:SPLIT's captions.

    Raises:
        UsageError: there is nothing of that name, or nothing in it.
    """
    path = Path(source)
    if path.is_file():
        lines = _of_file(path)
    elif (workspace.prompts / f"{source}.toml").is_file():
        lines = _of_book(workspace.prompts / f"{source}.toml")
    else:
        known = [path.name for path in folders(workspace.datasets)]
        if parse_reference(source)[0] not in known:
            books = [path.stem for path in workspace.prompts.glob("[!.]*.toml")]
            raise unknown("file, prompt book or data set", source, [*books, *known])
        lines = _of_dataset(workspace, source)
    if not lines:
        raise UsageError(f"{source} holds no prompts.")
    return [PromptLine(line.prompt, line.negative or negative, line.label) for line in lines]


def _of_file(path: Path) -> list[PromptLine]:
    if path.suffix == ".toml":
        return _of_book(path)
    if path.suffix != ".jsonl":
        return [PromptLine(line.strip()) for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    lines = []
    for record in files.read_records(path):
        prompt = record.get("prompt") or record.get("text")
        if isinstance(prompt, str) and prompt.strip():
            lines.append(PromptLine(prompt, str(record.get("negative") or ""), str(record.get("label") or "")))
    return lines


def _of_book(path: Path) -> list[PromptLine]:
    try:
        book = load_book(path)
    except tomli.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML ({error}).") from None
    return [PromptLine(entry.prompt, entry.negative, entry.label) for entry in book.prompts]


def _of_dataset(workspace: Workspace, reference: str) -> list[PromptLine]:
    """The captions of a split, one for each picture, taken from its several in turn; the classes come in turn too.

    Data sets list one class after the other, and the first few captions shall speak of more than airports.
    """
    name, split = parse_reference(reference)
    dataset = open_dataset(workspace, name)
    seen: Counter[str] = Counter()
    placed = []
    for index, picture in enumerate(dataset.pictures(held_out_split(dataset, split))):
        if picture.captions:
            line = PromptLine(_literal(picture.captions[index % len(picture.captions)]), label=picture.label)
            placed.append((seen[picture.label], line))
            seen[picture.label] += 1
    return [line for _, line in sorted(placed, key=itemgetter(0))]


def _literal(caption: str) -> str:
    """A caption as a prompt that offers no choices."""
    return caption.replace("{", "(").replace("}", ")")


def write_plan(path: Path, tiles: Sequence[PlannedTile]) -> None:
    files.write_text(path, "".join(json.dumps(asdict(tile)) + "\n" for tile in tiles))


def planned(path: Path) -> list[PlannedTile]:
    """The tiles of a batch, from its plan.jsonl."""
    return [PlannedTile(**record) for record in files.read_records(path)]


def tile_name(tile: PlannedTile) -> str:
    """A tile's file name, from its number alone: prompts never become paths."""
    return f"{tile.index + 1:06d}.png"


def summary(tiles: Sequence[PlannedTile]) -> dict[str, Any]:
    """How many tiles each class has."""
    labels = sorted({tile.label for tile in tiles})
    return {slug(label) if label else "unlabelled": sum(tile.label == label for tile in tiles) for label in labels}
