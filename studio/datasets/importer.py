"""Importing: every picture given is either stored, with its captions, class and split, or refused with a reason."""

import hashlib
import shutil
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from studio import files
from studio.catalog import Catalog
from studio.context import Context, Done
from studio.datasets import captions
from studio.datasets.dataset import FACTS, IMAGES
from studio.datasets.finishing import PROGRESS, finish
from studio.datasets.formats import find_source
from studio.datasets.items import DEFAULT_SPLIT, Item, Source
from studio.datasets.pictures import NotImportable, look, refuse_bombs
from studio.display import shown
from studio.errors import StudioError, UsageError
from studio.events import Phase, Refused, Started, Warned
from studio.settings import ImportSettings
from studio.workspace import slug

REPORT_SECONDS = 0.1


@dataclass(frozen=True)
class Scan:
    """What an import would find: pictures given in each split, and what a person should know beforehand."""

    format: str
    items: int
    splits: dict[str, int]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Tally:
    """What an import has come to, small however many pictures there are."""

    given: int = 0
    imported: int = 0
    names: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        return self.given - self.imported


def scan(settings: ImportSettings) -> Scan:
    """Look at a source and change nothing.

    Raises:
        UsageError: nothing in it can be imported, or it cannot be imported as asked.
    """
    return _scan(settings, find_source(settings))


def _scan(settings: ImportSettings, source: Source) -> Scan:
    captions.check_template(settings.caption)
    in_splits: Counter[str] = Counter()
    classes = set()
    linkable = True
    for item in source.items(False):
        in_splits[item.split] += 1
        classes.add(item.label)
        linkable = linkable and (item.path is not None or source.format == "metadata-jsonl")
    if settings.link and not linkable:
        raise UsageError(f"The {source.format} form has no picture files to link to.", "Leave out --link.")
    if settings.hold_out and settings.hold_out >= in_splits[DEFAULT_SPLIT]:
        raise UsageError(
            f"{settings.hold_out} pictures cannot be held out of {in_splits[DEFAULT_SPLIT]} in {DEFAULT_SPLIT}.",
            "Hold out fewer.",
        )
    _require_one_good(source)
    return Scan(source.format, in_splits.total(), dict(in_splits), tuple(sorted(classes - {""})), source.notes)


def _require_one_good(source: Source) -> None:
    refuse_bombs()
    first_fault, count = "", 0
    for item in source.items(True):
        try:
            look(item.read())
            return
        except NotImportable as error:
            first_fault = first_fault or f"{shown(item.file)} {error}"
            count += 1
    raise UsageError(
        f"None of the {count} pictures given can be imported: {first_fault}.", "Name a folder of whole ones."
    )


def import_pictures(context: Context) -> Done:
    """Bring a source into the data set's folder.

    A killed import leaves no dataset.toml. Done again with the same settings, it goes on behind the pictures that are
    already stored, and tells every refusal again.
    """
    settings = context.settings
    assert isinstance(settings, ImportSettings)
    folder = context.folder.path
    if (folder / FACTS).is_file():
        raise UsageError(f"The data set {folder.name} is there already.", "Choose another name.")
    context.emit(Started("import", context.device))
    context.emit(Phase("Looking at the source"))
    source = find_source(settings)
    found = _scan(settings, source)
    for note in found.notes:
        context.emit(Warned(note))
    tally = _Tally()
    if not _store_all(context, settings, source, found.items, tally):
        return Done({"name": folder.name, **_counts(tally)}, "stopped")
    if not tally.imported:
        raise StudioError("None of the pictures given could be imported.", "The reasons are listed above.")
    context.emit(Phase("Writing the manifest"))
    finish(context, settings, found.format, tally.refused)
    _index(context)
    return Done({"name": folder.name, **_counts(tally)})


def _counts(tally: _Tally) -> dict[str, int]:
    return {"given": tally.given, "imported": tally.imported, "refused": tally.refused}


def _store_all(context: Context, settings: ImportSettings, source: Source, total: int, tally: _Tally) -> bool:
    """Store or refuse every item; whether nobody asked to stop before the end."""
    progress_path = context.folder.path / PROGRESS
    _take_up(context, settings, source, tally)
    items = islice(source.items(True), tally.given, None)
    reported = 0.0
    with progress_path.open("ab") as progress:
        for item in items:
            if context.should_stop(tally.given):
                return False
            progress.write(files.json_line(_stored_or_refused(context, settings, item, tally)))
            if time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                progress.flush()
                context.emit(Phase("Importing pictures", tally.given, total))
    context.emit(Phase("Importing pictures", tally.given, tally.given))
    return True


def _take_up(context: Context, settings: ImportSettings, source: Source, tally: _Tally) -> None:
    """Keep what an earlier, killed import with the same settings found out about the first items, if it still holds."""
    folder = context.folder.path
    told = {"settings": settings.model_dump(mode="json")}
    known = files.read_records(folder / PROGRESS)
    goes_on = next(known, None) == told
    if not goes_on:
        shutil.rmtree(folder / IMAGES, ignore_errors=True)
    with files.replacing(folder / PROGRESS) as path, path.open("wb") as progress:
        progress.write(files.json_line(told))
        for row, item in zip(known, source.items(False), strict=False) if goes_on else ():
            if row.get("source", row.get("file")) != item.file or not _still_holds(folder, row):
                break
            progress.write(files.json_line(row))
            tally.given += 1
            if "reason" in row:
                context.emit(Refused(item.file, row["reason"]))
            else:
                tally.imported += 1
                tally.names[PurePath(row["file_name"]).stem] += 1


def _still_holds(folder: Path, row: dict[str, Any]) -> bool:
    if "reason" in row:
        return True
    path = folder / str(row.get("file_name"))
    return path.is_file() and files.sha256_of(path) == row.get("sha256")


def _stored_or_refused(context: Context, settings: ImportSettings, item: Item, tally: _Tally) -> dict[str, Any]:
    tally.given += 1
    try:
        row = _store(context.folder.path, settings, item, tally)
    except NotImportable as error:
        context.emit(Refused(item.file, str(error)))
        return {"file": item.file, "reason": str(error)}
    tally.imported += 1
    return row


def _store(folder: Path, settings: ImportSettings, item: Item, tally: _Tally) -> dict[str, Any]:
    """Write one picture, and return its row of captions.jsonl; its extra facts give way to ours of the same name."""
    data = item.read()
    seen = look(data)
    name = _free_file_name(item, seen.suffix, tally.names)
    path = folder / IMAGES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if settings.link and item.path is not None:
        path.symlink_to(item.path)
    else:
        path.write_bytes(data)  # not yet for good: the manifest syncs it, and without dataset.toml nobody reads it
    return {
        **item.extra,
        "file_name": f"{IMAGES}/{name}",
        "captions": list(item.captions or captions.from_template(settings.caption, item.label)),
        "label": item.label,
        "split": item.split,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width_px": seen.width_px,
        "height_px": seen.height_px,
        "source": item.file,
    }


def _free_file_name(item: Item, suffix: str, taken: Counter[str]) -> str:
    """A safe name like the original's; bare numbers get their class in front, and what is taken a number behind."""
    stem = slug(PurePath(item.file.replace("\\", "/")).stem)
    if stem.isdigit() and item.label:
        stem = f"{slug(item.label)}_{stem}"
    name, count = stem, taken[stem]
    while taken[name]:
        count += 1
        name = f"{stem}-{count}"
    taken[stem] = max(count, 1)
    taken[name] = taken[name] or 1
    return name + suffix


def _index(context: Context) -> None:
    context.emit(Phase("Indexing captions"))
    try:
        Catalog(context.workspace).update(context.folder.path)
    except sqlite3.Error as error:  # the index can be made again at any time, so it costs nobody an import
        context.emit(Warned(f"The captions could not be indexed ({error}).", "Try: rs-studio WS check"))
