"""Which form a source is in, and the items in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from studio.datasets import demo, folders, metadata, parquet
from studio.datasets.items import Item, Source
from studio.display import shown_line
from studio.errors import UsageError, unknown
from studio.settings import ImportSettings

FORMATS = ("parquet", "metadata-jsonl", "class-folders", "folder", "demo")
# Files that may well describe or hold pictures, so a person is told when they are left aside.
_TELLING = (
    ".parquet",
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".arrow",
    ".zip",
    ".tar",
    ".gz",
    ".tgz",
    ".h5",
    ".npy",
    ".npz",
)


def find_source(settings: ImportSettings) -> Source:
    """The form of a source; where there are several, the first of FORMATS that holds pictures.

    Raises:
        UsageError: the source is missing, the form unknown, or there is nothing of it there.
    """
    if settings.format not in ("auto", *FORMATS):
        raise unknown("format", settings.format, FORMATS)
    if settings.format == "demo" or demo.is_demo(settings.source):
        return demo.source(settings)
    root = Path(settings.source).expanduser()
    if not root.exists():
        raise UsageError(
            f"There is no file or folder {shown_line(root)}.", "Name a folder of pictures or a parquet file."
        )
    finders = {
        "parquet": parquet.source,
        "metadata-jsonl": metadata.source,
        "class-folders": folders.class_folders,
        "folder": folders.folder,
    }
    wanted = [settings.format] if settings.format != "auto" else list(finders)
    for name in wanted:
        source = finders[name](root)
        if source is not None:
            return Source(source.format, _chosen(source, settings), (*source.notes, *_left_aside(root, source)))
    form = "pictures" if settings.format == "auto" else f"pictures in the form {settings.format}"
    raise UsageError(
        f"{shown_line(root)} holds no {form}.",
        "Known are class folders, an image folder with metadata.jsonl, parquet with pictures inside, plain pictures.",
    )


def _chosen(source: Source, settings: ImportSettings) -> Callable[[bool], Iterator[Item]]:
    if not settings.classes:
        return source.items
    by_small_name = {item.label.lower(): item.label for item in source.items(False) if item.label}
    for name in settings.classes:
        if name.lower() not in by_small_name:
            raise unknown("class", name, by_small_name.values())
    wanted = {by_small_name[name.lower()] for name in settings.classes}
    return lambda readable: (item for item in source.items(readable) if item.label in wanted)


def _left_aside(root: Path, source: Source) -> list[str]:
    """A sentence for files beside the pictures that might have been meant."""
    if not root.is_dir():
        return []
    taken = {"parquet": (".parquet",), "metadata-jsonl": (".jsonl",)}.get(source.format, ())
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in _TELLING and path.suffix.lower() not in taken and path.is_file()
    )
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    listed = ", ".join(shown_line(name, 80) for name in names[:5])
    return [f"The pictures came from the {source.format} form; left aside: {listed}{more}."]
