"""Whether unfinished work was begun as it is asked for now, and in what it differs; without torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from studio import config
from studio.display import shown_line
from studio.generation.class_plan import CLASS_PLAN, Plan
from studio.generation.inputs import keep_inputs
from studio.generation.plans import PLAN_FILE, PlannedTile, planned
from studio.jobs import Job
from studio.settings import GenerateSettings

_MOST_NAMED = 4


def differences(begun: BaseModel, asked: BaseModel, ignored: Sequence[str] = ()) -> list[str]:
    """Every setting that differs, with both its values."""
    old, new = config.flat(begun.model_dump(mode="json")), config.flat(asked.model_dump(mode="json"))
    keys = [key for key in {**old, **new} if key not in ignored and old.get(key) != new.get(key)]
    return [_difference(key, old.get(key), new.get(key)) for key in keys]


def batch_differences(
    begun: Job, asked: GenerateSettings, told: GenerateSettings, tiles: Sequence[PlannedTile], plan: Plan | None
) -> list[str]:
    """What sets an unfinished batch apart from one that is asked for.

    Args:
        told: `asked` as a new batch would begin with it, with every model pinned.
    """
    settings, folder = begun.settings, begun.folder.path
    assert isinstance(settings, GenerateSettings)
    if is_same_model(asked.model, told.model, settings.model):
        told = told.model_copy(update={"model": settings.model})
    named = (asked.loras, told.loras, settings.loras)
    if len({len(names) for names in named}) == 1 and all(map(is_same_model, *named)):
        told = told.model_copy(update={"loras": settings.loras})
    with TemporaryDirectory() as aside:
        found = differences(settings, keep_inputs(Path(aside), told))
    old_plan = config.load(folder / CLASS_PLAN, Plan) if (folder / CLASS_PLAN).is_file() else None
    if plan != old_plan:
        return ["the class plan", *found]
    return [*_of_texts(planned(folder / PLAN_FILE), tiles), *found]


def is_same_model(asked: str, now: str, begun: str) -> bool:
    """Whether a name that means one checkpoint now may have meant another when work began; one with a step may not."""
    return now == begun or ("@" not in asked and _without_step(now) == _without_step(begun))


def in_short(differing: Sequence[str]) -> str:
    more = len(differing) - _MOST_NAMED
    return ", ".join(differing[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _of_texts(begun: Iterable[PlannedTile], asked: Iterable[PlannedTile]) -> list[str]:
    """What the first tiles that show something else show; their count and seeds are settings."""
    for old, new in zip(begun, asked, strict=False):
        texts = {name: (getattr(old, name), getattr(new, name)) for name in ("prompt", "negative", "label")}
        found = [_difference(name, *pair) for name, pair in texts.items() if pair[0] != pair[1]]
        if found:
            return found
    return []


def _difference(name: str, old: Any, new: Any) -> str:
    return f"{name} ({_in_words(old)}, now {_in_words(new)})"


def _in_words(value: Any) -> str:
    return "unset" if value in (None, "", []) else shown_line(value, 40)


def _without_step(name: str) -> tuple[str, str]:
    """A pinned name without its step or commit, and the strength behind it, if it has one."""
    head, _, tail = name.partition("@")
    return head, tail.partition(":")[2]
