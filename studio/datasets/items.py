"""One item for each picture that a source gives, whatever form it comes in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.datasets.pictures import NotImportable
from studio.display import shown_line

CAPTION_KEYS = ("captions", "caption", "text", "texts", "sentences", "sentence")
LABEL_KEYS = ("label", "class", "category", "class_name", "label_name")
FILE_KEYS = ("file_name", "filename", "image", "path", "file")
DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class Item:
    """One picture as its source gives it.

    `read` gives its bytes or raises NotImportable; `path` is where it lies, for a link, where it is a file of its own.
    """

    file: str
    read: Callable[[], bytes]
    captions: tuple[str, ...] = ()
    label: str = ""
    split: str = DEFAULT_SPLIT
    extra: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class Source:
    """A source whose form is known. `items(False)` is quick and its items need not be readable; the order is fixed."""

    format: str
    items: Callable[[bool], Iterator[Item]]
    notes: tuple[str, ...] = ()


def refused(reason: str) -> Callable[[], bytes]:
    """A `read` for an item that is known to be no picture."""

    def read() -> bytes:
        raise NotImportable(reason)

    return read


def texts_of(value: Any) -> tuple[str, ...]:
    """Captions from a string or a list of strings; empty ones are dropped, repeated ones stay."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(text for one in values if isinstance(one, str) and (text := one.strip()))


def key_of(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The first of some keys under which a row has something; empty where it has none."""
    return next((key for key in keys if row.get(key) is not None), "")


def label_of(value: Any) -> str:
    """A class name made safe to use as one, from text or a number."""
    return "" if value is None or isinstance(value, bool | float | list | dict) else shown_line(value, 100)
