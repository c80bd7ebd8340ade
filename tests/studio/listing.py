"""What lies in a folder, so that a test can say that it was left as it was."""

import hashlib
from pathlib import Path


def listing(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with what it holds."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }
