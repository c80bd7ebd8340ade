"""Where models of the hub and of single files lie once they were fetched; paths only."""

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from studio.workspace import Workspace, slug

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
DEFAULT_REVISION = "main"


def is_hub_name(name: str) -> bool:
    """Whether a name has the form OWNER/NAME or OWNER/NAME@REVISION."""
    return len(name) <= 200 and ".." not in name and _HUB_NAME.fullmatch(name) is not None


def hub_cache(workspace: Workspace) -> Path:
    """The workspace's own cache, laid out as the hub's library does: HF_HOME would be the folder above."""
    return workspace.cache / "huggingface" / "hub"


def repository(cache: Path, hub_id: str) -> Path:
    return cache / f"models--{hub_id.replace('/', '--')}"


def snapshots(workspace: Workspace, hub_id: str, revision: str = "") -> Iterator[Path]:
    """Folders that may hold a model: of the workspace's own cache, where whole, then of the person's."""
    own = repository(hub_cache(workspace), hub_id)
    theirs = repository(_persons_cache(), hub_id)
    for folder in (own, theirs):
        ref = folder / "refs" / (revision or DEFAULT_REVISION)
        commit = ref.read_text().strip() if ref.is_file() else revision
        # A reference of ours is written after the last file, so without one the download was not finished.
        if (ref.is_file() or folder is theirs) and commit and (folder / "snapshots" / commit).is_dir():
            yield folder / "snapshots" / commit


def is_ours(workspace: Workspace, snapshot: Path) -> bool:
    return snapshot.is_relative_to(hub_cache(workspace))


def folder_of_file(workspace: Workspace, path: Path) -> Path:
    """The folder that a single file is unpacked to; another one once the file has changed."""
    status = path.stat()
    key = sha256(f"{path}\n{status.st_size}\n{status.st_mtime_ns}".encode("utf-8", "surrogateescape")).hexdigest()
    return workspace.cache / "models" / f"{slug(path.stem)}-{key[:12]}"


def downloaded(workspace: Workspace) -> list[tuple[str, str, Path]]:
    """Models of the hub in the workspace: (OWNER/NAME, commit, folder), by name."""
    found = []
    for folder in sorted(hub_cache(workspace).glob("models--*--*")):
        hub_id = folder.name.removeprefix("models--").replace("--", "/", 1)
        commits = {path.read_text().strip() for path in (folder / "refs").rglob("*") if path.is_file()}
        found += [(hub_id, commit, folder / "snapshots" / commit) for commit in sorted(commits)]
    return found


def unpacked(workspace: Workspace) -> list[Path]:
    """Folders of single files that were unpacked, by name."""
    return sorted(path.parent for path in (workspace.cache / "models").glob("[!.]*/model_index.json"))


def _persons_cache() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
