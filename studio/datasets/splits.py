"""Which pictures are trained on and which are kept to measure with."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePath

from studio.workspace import slug

HELD_OUT = "held-out"
SPLIT_NAMES = frozenset({"train", "training", "valid", "val", "validation", "test", "testing", "dev", HELD_OUT})
MEASURED = (HELD_OUT, "valid", "val", "validation", "test", "dev", "testing")


def split_of_name(name: str) -> str:
    """The split that a file or folder name begins with, as spelled there: valid for valid-00000-of-00001.parquet."""
    word = re.split(r"[-_.]\d|\.", name.lower(), maxsplit=1)[0]
    return word if word in SPLIT_NAMES else ""


def split_of_folders(path: PurePath) -> str:
    """The first folder of a relative path that is named like a split."""
    return next((part.lower() for part in path.parts[:-1] if part.lower() in SPLIT_NAMES), "")


def split_of_value(value: object) -> str:
    """A split named by a row, as it may stand in a path; nothing where it names none."""
    return slug(value) if isinstance(value, str) and value.strip() else ""


def chosen_to_hold_out(pictures: Iterable[tuple[str, str]], count: int, seed: int) -> set[str]:
    """File names of `count` of the pictures, given as (file name, sha256).

    The choice follows from the seed and the pictures' bytes alone, so neither their order nor a library's version
    changes it, and exact duplicates stay together but at the last place.
    """
    ranked = sorted(pictures, key=lambda one: (hashlib.sha256(f"{seed}:{one[1]}".encode()).digest(), one[0]))
    return {file_name for file_name, _ in ranked[:count]}


def put_aside(count: int, wanted: int) -> int:
    """Pictures measured and not trained on where nothing was held out: as many as wanted, at most a tenth."""
    return min(wanted, max(count // 10, 1)) if count > 1 else 0


def sum_of_split(pictures: Iterable[tuple[str, str]]) -> str:
    """One sha256 for a split, given as (file name, sha256): every figure measured on it carries this."""
    total = hashlib.sha256()
    for file_name, sha256 in sorted(pictures):
        total.update(f"{sha256} {file_name}\n".encode())
    return total.hexdigest()
