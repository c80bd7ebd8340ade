"""A workspace folder: found, made from the template, and where everything in it lies."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from studio import files
from studio.errors import UsageError, unknown

SETTINGS = "studio.toml"
TEMPLATE = Path(__file__).parent.parent / "workspace_template"
STARTER = TEMPLATE / "models" / "starter"
SCENES = TEMPLATE / "models" / "scenes"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Workspace:
    """One folder with one person's data sets, runs, tiles, figures and collections; paths only."""

    root: Path

    @property
    def settings_path(self) -> Path:
        return self.root / SETTINGS

    @property
    def catalog_path(self) -> Path:
        return self.root / "catalog.db"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def batches(self) -> Path:
        return self.root / "batches"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluations"

    @property
    def collections(self) -> Path:
        return self.root / "collections"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts"

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    @property
    def cache(self) -> Path:
        """What can be made again from the rest: latents, embeddings, thumbnails."""
        return self.root / "cache"

    def dataset(self, name: str) -> Path:
        return _named(self.datasets, "data set", name)

    def batch(self, name: str) -> Path:
        return _named(self.batches, "batch", name)

    def collection(self, name: str) -> Path:
        return _named(self.collections, "collection", name)

    def run(self, name: str) -> Path:
        """The folder of a run given by its number, its name, or a folder."""
        found = numbered_folders(self.runs)
        numbers = {str(int(path.name.partition("-")[0])): path for path in found}
        names = {path.name.partition("-")[2]: path for path in found}
        number = str(int(name)) if name.isascii() and name.isdecimal() else ""
        for known, given in (({path.name: path for path in found}, name), (numbers, number), (names, name)):
            if given and given in known:
                return known[given]
        folder = Path(name)
        if name and folder.is_dir() and folder.resolve().parent == self.runs.resolve():
            return self.runs / folder.resolve().name
        raise unknown("run", name, names)

    def taken_names(self) -> dict[str, Path]:
        """Every name in use over data sets, runs, batches and collections, with its folder."""
        taken = {path.name: path for kind in (self.datasets, self.batches, self.collections) for path in folders(kind)}
        return taken | {path.name.partition("-")[2]: path for path in numbered_folders(self.runs)}


def folders(parent: Path) -> list[Path]:
    """The folders in a folder, by name; temporary ones of a killed process are left out."""
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def numbered_folders(parent: Path) -> list[Path]:
    """Folders named like 0007-lora, oldest first."""
    found = [path for path in folders(parent) if re.match(r"\d{4,}(-|$)", path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[0]))


def next_numbered(parent: Path, name: str = "") -> Path:
    """Make and return the next folder named like 0007-lora; within `naming` no number is given twice."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        last = max((int(path.name.partition("-")[0]) for path in numbered_folders(parent)), default=0)
        path = parent / (f"{last + 1:04d}-{name}" if name else f"{last + 1:04d}")
        try:
            path.mkdir()
        except FileExistsError:  # another process took the number
            continue
        return path


def check_name(name: str, kind: str = "name") -> str:
    """The name, if it may stand for a folder.

    Raises:
        UsageError: it holds anything but lower-case letters, digits, dot, dash and underscore.
    """
    if not _NAME.fullmatch(name) or len(name) > 80 or ".." in name:
        raise UsageError(
            f"{name!r} cannot be the {kind} of anything here.",
            "Use lower-case letters, digits, '.', '-' and '_', beginning with a letter or digit, at most 80.",
        )
    return name


def slug(text: str) -> str:
    """The nearest allowed name to any text."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    return re.sub(r"\.{2,}", ".", name)[:60] or "unnamed"


def free_name(wanted: str, taken: dict[str, Path]) -> str:
    """The wanted name, with -2, -3, … where it is taken."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}-{count}"
    return name


def open_workspace(root: Path) -> Workspace:
    """The workspace in a folder that must be one.

    Raises:
        UsageError: there is none.
    """
    if root.is_file():
        raise UsageError(f"{root} is a file, not a workspace folder.", "Name a folder.")
    if not (root / SETTINGS).is_file():
        raise UsageError(f"There is no workspace at {root}.", f"Make one with: rs-studio {root} init")
    return Workspace(root)


def can_hold_workspace(root: Path) -> None:
    """Raise where a workspace can neither be opened nor made and written at a path; change nothing.

    Raises:
        UsageError: the path is a file, a folder of other things, or may not be written to.
    """
    if os.path.lexists(root) and not root.is_dir():
        raise UsageError(f"{root} is a file, not a workspace folder.", "Name a folder.")
    if root.is_dir() and not (root / SETTINGS).is_file() and not _only_template(root):
        raise UsageError(
            f"{root} holds other files and is not a workspace.", "Name a new or empty folder, or one made by rs-studio."
        )
    existing = next(path for path in [root, *root.absolute().parents] if path.exists())
    if not existing.is_dir():
        raise UsageError(f"{existing} is a file, so {root} cannot be made.", "Name a folder.")
    if not _writable(existing):
        raise UsageError(
            f"{existing} is read-only.", "Choose a folder that you may write to, or change its permissions."
        )


def make_workspace(root: Path) -> Workspace:
    """Open the workspace in a folder, made from the template where there is none yet.

    Raises:
        UsageError: as `can_hold_workspace`.
    """
    can_hold_workspace(root)
    if (root / SETTINGS).is_file():
        return Workspace(root)
    root.mkdir(parents=True, exist_ok=True)
    for name in ("recipes", "prompts", "plans"):
        shutil.copytree(TEMPLATE / name, root / name, dirs_exist_ok=True)
    shutil.copy(TEMPLATE / "README.md", root / "README.md")
    for name in ("datasets", "runs", "batches", "evaluations", "collections", "corpus"):
        (root / name).mkdir(exist_ok=True)
    # Last, as it is what makes the folder a workspace.
    files.write_bytes(root / SETTINGS, (TEMPLATE / SETTINGS).read_bytes())
    return Workspace(root)


@contextmanager
def naming(workspace: Workspace) -> Iterator[None]:
    """Make the workspace if need be; nobody else takes a name or number in it until the block ends.

    Raises:
        UsageError: as `can_hold_workspace`.
    """
    make_workspace(workspace.root)
    path = workspace.settings_path
    # NFS locks only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _named(parent: Path, kind: str, name: str) -> Path:
    known = {path.name: path for path in folders(parent)}
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def _only_template(root: Path) -> bool:
    kept = {"recipes", "prompts", "plans", "README.md"}
    ours = kept | {"datasets", "runs", "batches", "evaluations", "collections", "corpus"}
    return all(path.name in ours or path.name.startswith(files.TEMPORARY) for path in root.iterdir())


def _writable(folder: Path) -> bool:
    # Root passes os.access on a read-only mount and on mode 0500, so the mode and the mount are asked as well.
    if not os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_RDONLY:
        return False
    return bool(folder.stat().st_mode & 0o222)
