"""A run's checkpoints on disk: whole or absent, newest valid first, pruned only after the next is safe."""

import json
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.models.modelspec import UNKNOWN, describe_parts

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_FILE = "training.safetensors"
STATE_FILE = "state.json"
PROMOTED_FILE = "promoted.json"


def all_of(run: Path) -> list[Path]:
    """Folders of a run's checkpoints, oldest first, whole or not."""
    parent = run / "checkpoints"
    found = [path for path in parent.iterdir() if re.fullmatch(r"step-\d+", path.name)] if parent.is_dir() else []
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def newest(run: Path) -> Path | None:
    """The newest checkpoint whose every file is as its manifest says."""
    return next((path for path in reversed(all_of(run)) if not files.manifest_faults(path)), None)


def chosen(run: Path) -> Path | None:
    """The checkpoint that stands for a run: the promoted one, else the newest."""
    step = promoted_step(run)
    return (at_step(run, step) if step is not None else None) or newest(run)


def promoted_step(run: Path) -> int | None:
    """The step that a person promoted, if any."""
    try:
        return int(json.loads((run / PROMOTED_FILE).read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def promote(run: Path, step: int) -> None:
    files.write_json(run / PROMOTED_FILE, {"step": step})


def at_step(run: Path, step: int) -> Path | None:
    return next((path for path in all_of(run) if step_of(path) == step and not files.manifest_faults(path)), None)


def save(
    run: Path,
    step: int,
    tensors: "dict[str, Tensor]",
    state: dict[str, Any],
    write_model: Callable[[Path], None],
) -> Path:
    """Write one checkpoint: what training needs to go on, and the model as other tools load it."""
    from safetensors.torch import save_file  # imports torch

    target = run / "checkpoints" / f"step-{step:06d}"
    if target.is_dir():
        shutil.rmtree(target)  # one that did not pass its manifest, since a run never saves a step twice
    with files.whole_folder(target) as folder:
        save_file(tensors, folder / TRAINING_FILE)
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2))
        write_model(folder)
        architecture, objective = state.get("architecture", UNKNOWN), state.get("objective", "")
        for part in (path for path in folder.iterdir() if path.is_dir()):
            describe_parts(part, f"{run.name}@{step}", architecture, objective=objective)
        for weights in folder.rglob("*.safetensors"):
            weights.chmod(0o644)  # written for the owner alone, whatever the mask
    return target


def load(checkpoint: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """The tensors and the state of one checkpoint."""
    from safetensors.torch import load_file  # imports torch

    return load_file(checkpoint / TRAINING_FILE), json.loads((checkpoint / STATE_FILE).read_text())


def prune(run: Path, step: int, keep_last: int, keep_steps: Collection[int] = ()) -> None:
    """Delete old checkpoints once that of a step is safe; the last few and those named stay.

    Later ones go too: they did not pass their manifest, else the run would have gone on from them.
    """
    found = all_of(run)
    kept = [path for path in found if step_of(path) <= step][-keep_last:]
    for path in found:
        if path not in kept and (step_of(path) > step or step_of(path) not in keep_steps):
            shutil.rmtree(path)
    for torn in (run / "checkpoints").glob(f"{files.TEMPORARY}*"):
        shutil.rmtree(torn, ignore_errors=True)
