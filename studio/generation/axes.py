"""What a grid varies: axes written as NAME=A,B,C become cells, each with its whole settings; without torch."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field

from studio import config
from studio.display import shown_line
from studio.errors import UsageError, unknown
from studio.generation.inputs import check_strength
from studio.models.registry import resolve
from studio.prompts.choices import expand
from studio.settings import GenerateSettings, GridSettings
from studio.workspace import Workspace

GRID_FILE = "grid.json"
MOST_CELLS = 2000
_TEXTS = ("prompt", "negative")
_NOT_VARIED = ("count", "batch", "model", "loras", "init", "mask", "width_px", "height_px")
_LONGEST_RANGE = 1000


class Axis(config.Model):
    """One direction of a grid."""

    name: str
    """What varies."""
    values: tuple[str, ...] = Field(min_length=1)
    """Its values, in order, as they were written."""

    @property
    def headings(self) -> list[str]:
        return [
            value if value and self.name in (*_TEXTS, "model") else f"{self.name} {value or 'none'}"
            for value in self.values
        ]


class Cell(config.Model):
    """One tile of a grid."""

    index: int
    """Its number, from 0."""
    place: tuple[int, ...]
    """Column, row and block, as far as there are such axes."""
    prompt: str
    """What it shows."""
    negative: str
    """What it is steered away from."""
    settings: GenerateSettings
    """Everything else, the seed among it."""


class Grid(config.Model):
    """grid.json: the axes (columns, rows, blocks) and every cell."""

    title: str
    """What all cells have in common."""
    axes: tuple[Axis, ...]
    """Columns, rows, blocks."""
    cells: tuple[Cell, ...]
    """Columns change fastest, then rows."""
    sheet: str = "grid.png"
    """The labelled sheet of all cells, beside this file."""


def varied_settings() -> list[str]:
    """Everything that an axis can be of."""
    fields = [name for name in GenerateSettings.model_fields if name not in _NOT_VARIED]
    return sorted([*fields, *_TEXTS, "model", "weights", "lora"])


def plan_grid(workspace: Workspace, settings: GridSettings) -> Grid:
    """Every cell of a grid, with each model pinned by its name.

    Raises:
        UsageError: an axis is not understood, two are of the same thing, or there are too many cells.
        SettingsError: a value cannot be used, named with its axis.
    """
    axes = [parse_axis(text) for text in (settings.x, settings.y, settings.z) if text]
    names = [axis.name for axis in axes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"Two axes are of {twice[0]}.", "Give each axis another setting.")
    places = list(product(*(range(len(axis.values)) for axis in reversed(axes))))
    if len(places) > MOST_CELLS:
        raise UsageError(f"The grid would have {len(places):,} cells.", f"Vary less: {MOST_CELLS:,} at most.")
    if not settings.prompt.strip() and "prompt" not in names:
        raise UsageError("The prompt is empty.", "Write --prompt 'a satellite image of a river'.")
    pinned = cache(lambda name, loras: resolve(workspace, name, loras))
    cells = []
    for index, place in enumerate(places):
        chosen = {axis.name: axis.values[at] for axis, at in zip(axes, reversed(place), strict=True)}
        values, texts = _chosen(workspace, settings, chosen)
        told = config.check(values, GenerateSettings, f"The cell {', '.join(chosen.values())}")
        ref = pinned(told.model, told.loras)
        told = told.model_copy(update={"model": ref.name, "loras": tuple(one.name for one in ref.extra)})
        cells.append(Cell(index=index, place=tuple(reversed(place)), settings=told, **texts))
    if not any(cell.settings.upscale > 1 for cell in cells):
        check_strength(cells[0].settings)
    title = "" if "prompt" in names else settings.prompt
    return Grid(title=title, axes=tuple(axes), cells=tuple(cells))


def parse_axis(text: str) -> Axis:
    """An axis of NAME=A,B,C; numbers may be a range such as 1430..1435, a text offers its choices as {one|another}.

    Raises:
        UsageError: it has no values, or nothing of that name can be varied.
    """
    name, equals, written = text.partition("=")
    name = name.strip()
    if name not in varied_settings():
        raise unknown("setting of a grid", name, varied_settings())
    values = expand(written) if name in _TEXTS else [one for part in written.split(",") for one in _range(part.strip())]
    # Nothing to steer away from is worth comparing with something.
    is_whole = any if name == "negative" else all
    if not equals or not is_whole(value.strip() for value in values):
        hint = f"Write {name}={{one|another}}." if name in _TEXTS else f"Write {name}=A,B,C."
        raise UsageError(f"The axis {shown_line(text)} lacks values.", hint)
    if len(set(values)) < len(values):
        raise UsageError(f"The axis {shown_line(text)} has a value twice.", "Name each value once.")
    return Axis(name=name, values=tuple(values))


def read_grid(path: Path) -> Grid:
    """A grid from its file.

    Raises:
        UsageError: there is none, or it is not what a grid's file holds.
    """
    try:
        return config.check(json.loads(path.read_text("utf-8")), Grid, str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as a grid ({error}).", "Make the grid again.") from None


def _range(text: str) -> list[str]:
    first, dots, last = text.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal():
        return [text]
    if int(last) < int(first):
        raise UsageError(f"The range {text} runs backwards.", f"Write {last}..{first}.")
    if int(last) - int(first) >= _LONGEST_RANGE:
        raise UsageError(f"The range {text} is too long.", f"Name at most {_LONGEST_RANGE:,} values in a range.")
    return [str(number) for number in range(int(first), int(last) + 1)]


def _chosen(
    workspace: Workspace, settings: GridSettings, chosen: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings and the texts of one cell, as yet unchecked."""
    texts = {name: chosen.get(name, getattr(settings, name)) for name in _TEXTS}
    varied = {name: value for name, value in chosen.items() if name in GenerateSettings.model_fields}
    values: dict[str, Any] = {**settings.tiles.model_dump(), **varied, "count": 1}
    if "weights" in chosen:
        values["model"] = _base_or_tuned(workspace, values["model"], chosen["weights"])
    if "lora" in chosen:
        values["loras"] = _scaled(values["loras"], chosen["lora"])
    return values, texts


def _base_or_tuned(workspace: Workspace, model: str, weights: str) -> str:
    if weights not in ("base", "tuned"):
        raise unknown("kind of weights", weights, ["base", "tuned"])
    if weights == "tuned":
        return model
    try:
        run = workspace.run(model.partition("@")[0])
    except UsageError:
        resolve(workspace, model)
        raise UsageError(
            f"{shown_line(model)} is no run, so it was not tuned from a base.", "Name a run with --model RUN."
        ) from None
    settings = config.read_toml(run / "config.toml").get("settings", {})
    if settings.get("method", {}).get("name") not in ("lora", "full"):
        raise UsageError(f"{run.name} was not tuned from a base model.", "Compare a run of method lora or full.")
    return str(settings["base"])


def _scaled(loras: Sequence[str], scale: str) -> tuple[str, ...]:
    """LoRA files with the last one's strength changed."""
    if not loras:
        raise UsageError("The axis lora needs a LoRA file.", "Add --lora FILE.")
    file = loras[-1]
    head, colon, old = file.rpartition(":")
    return (*loras[:-1], f"{head if colon and _is_number(old) else file}:{scale}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
