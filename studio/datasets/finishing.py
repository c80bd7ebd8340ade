"""The end of an import: splits, captions, manifest, and last of all the file that makes the data set one."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomlkit

from studio import files
from studio.context import Context
from studio.datasets import splits
from studio.datasets.dataset import CAPTIONS, FACTS
from studio.datasets.items import DEFAULT_SPLIT
from studio.display import shown
from studio.errors import UsageError
from studio.events import Warned
from studio.settings import ImportSettings

# What is known so far, one line for each item looked at. The name makes it a leftover where a process died at the end.
PROGRESS = files.TEMPORARY + "progress.jsonl"
UNLISTED = ("events.jsonl", "control", "log.txt")  # they go on changing, so the manifest leaves them out


def finish(context: Context, settings: ImportSettings, form: str, refused: int) -> None:
    """Put pictures aside, and write captions, manifest and, last of all, what makes the data set one."""
    folder = context.folder.path
    stored = [(row["file_name"], row["sha256"], row["split"]) for row in _stored_rows(folder)]
    held_out = _held_out(settings, stored)
    in_splits: dict[str, list[tuple[str, str]]] = {}
    for file_name, sha256, split in stored:
        in_splits.setdefault(splits.HELD_OUT if file_name in held_out else split, []).append((file_name, sha256))
    _warn_of_leaks(context, in_splits)
    classes: Counter[str] = Counter()
    sentences = 0
    with files.replacing(folder / CAPTIONS) as path, path.open("wb") as lines:
        for row in _stored_rows(folder):
            classes[row["label"]] += 1
            sentences += len(row["captions"])
            split = splits.HELD_OUT if row["file_name"] in held_out else row["split"]
            lines.write(files.json_line({**row, "split": split}))
    facts = {
        "schema": 1,
        "name": folder.name,
        "format": form,
        "source": shown(settings.source),
        "seed": settings.seed,
        "pictures": len(stored),
        "refused": refused,
        "captions": sentences,
        "classes": sorted(label for label in classes if label),
        "splits": {
            name: {"pictures": len(pictures), "sha256": splits.sum_of_split(pictures)}
            for name, pictures in sorted(in_splits.items())
        },
    }
    data = tomlkit.dumps(facts).encode()
    files.write_manifest(folder, exclude=UNLISTED, later={FACTS: data})
    files.write_bytes(folder / FACTS, data)
    (folder / PROGRESS).unlink()


def _stored_rows(folder: Path) -> Iterator[dict[str, Any]]:
    return (row for row in files.read_records(folder / PROGRESS) if "file_name" in row)


def _held_out(settings: ImportSettings, stored: list[tuple[str, str, str]]) -> set[str]:
    trained = [(file_name, sha256) for file_name, sha256, split in stored if split == DEFAULT_SPLIT]
    if settings.hold_out and settings.hold_out >= len(trained):
        raise UsageError(
            f"{settings.hold_out} pictures cannot be held out, as only {len(trained)} of {DEFAULT_SPLIT} are whole.",
            "Hold out fewer.",
        )
    return splits.chosen_to_hold_out(trained, settings.hold_out, settings.seed)


def _warn_of_leaks(context: Context, in_splits: dict[str, list[tuple[str, str]]]) -> None:
    """Say how many pictures lie, byte for byte, both in a split that is trained on and in one that is not."""
    trained = {sha256 for _, sha256 in in_splits.get(DEFAULT_SPLIT, [])}
    for name, pictures in in_splits.items():
        shared = [file_name for file_name, sha256 in pictures if sha256 in trained] if name != DEFAULT_SPLIT else []
        if shared:
            count = f"{len(shared)} of {len(pictures)} pictures of {name}"
            told = f"{count} are in {DEFAULT_SPLIT} too, such as {shared[0]}."
            context.emit(Warned(told, "Figures measured on them flatter the model."))
