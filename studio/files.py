"""Files that are whole or absent: written under a temporary name, synced, renamed, and summed with sha256."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"
MANY = 100


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_texts(texts: Iterable[str]) -> str:
    """One sum over several texts in their order."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogateescape")).hexdigest()


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name only when it is whole and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target`, manifest last, when the block ends well; else nothing remains."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY}{os.getpid()}-{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        write_manifest(temporary)
        for folder in [temporary, *(path for path in temporary.rglob("*") if path.is_dir())]:
            sync(folder)
        temporary.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_manifest(folder: Path, exclude: Collection[str] = (), later: Mapping[str, bytes] | None = None) -> None:
    """Sync every file of a folder and record its size and sha256 in `manifest.json`.

    Files left half-written by a killed process are not recorded, nor are those named in `exclude`, which go on
    changing. `later` holds files that will be written after the manifest, as the sign that all is done.
    """
    files = {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(TEMPORARY))
    if is_many := len(paths) > MANY:
        os.sync()  # one for all; thousands of single ones take minutes on a busy disk
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST and name not in exclude:
            if not is_many:
                sync(path)
            files[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    for name, data in (later or {}).items():
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_json(folder / MANIFEST, {"files": files})


def manifest_faults(folder: Path, deep: bool = True) -> list[tuple[Path, str]]:
    """What differs from a folder's manifest: (file, "missing" | "changed" | "no manifest"), in order.

    A shallow look compares sizes; a deep one compares sums.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text("utf-8", "surrogateescape"))["files"]
        facts = {name: (fact["bytes"], fact["sha256"]) for name, fact in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [(folder / MANIFEST, "no manifest")]
    faults = []
    for name, (size, sha256) in facts.items():
        path = folder / name
        if not path.is_file():
            faults.append((path, "missing"))
        elif path.stat().st_size != size or (deep and sha256_of(path) != sha256):
            faults.append((path, "changed"))
    return faults


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one JSON line in one write, and sync it; half a line left by a crash is closed off first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        close_torn_line(descriptor)
        os.write(descriptor, json_line(record))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_line(record: dict[str, Any]) -> bytes:
    # ASCII, so that lone surrogates of odd file names survive the trip.
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def close_torn_line(descriptor: int) -> None:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The whole JSON objects of a file of lines; torn lines are skipped."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record


def folder_is_empty(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))
