"""Small sources in every form, and an import that keeps its events."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio import config
from studio.control import Control
from studio.events import Event, Finished
from studio.jobs import Job, execute
from studio.runs import JobFolder
from studio.settings import ImportSettings
from studio.workspace import Workspace


def picture(seed: int = 0, size_px: int = 24, form: str = "PNG") -> bytes:
    """A small picture of random blocks; each seed its own."""
    blocks = np.random.default_rng(seed).integers(0, 256, (size_px // 8, size_px // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(buffer, form)
    return buffer.getvalue()


def fill(root: Path, contents: Mapping[str, bytes | str]) -> Path:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def metadata(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def job(workspace: Workspace, source: Path | str, name: str = "set", **settings: Any) -> Job:
    folder = JobFolder(workspace.datasets / name)
    folder.path.mkdir(parents=True, exist_ok=True)
    told = ImportSettings(source=str(source), name=name, **settings)
    config.save(folder.config_path, told)
    return Job("import", workspace, folder, told)


def run_import(
    workspace: Workspace, source: Path | str, name: str = "set", **settings: Any
) -> tuple[Finished, list[Event]]:
    events: list[Event] = []
    work = job(workspace, source, name, **settings)
    return execute(work, Control(work.folder.control_path), events.append), events
