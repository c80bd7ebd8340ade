"""A tile's recipe in words: all of it beside the tile, and its main facts in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.content import Content

from screens import run_facts
from studio.catalog import Tile as CatalogTile
from studio.display import shown, shown_line
from studio.errors import StudioError
from studio.images import read_recipe

SHOWN_FIRST = (
    "model", "loras", "sampler", "steps", "guidance", "rescale", "seed", "width_px", "height_px", "precision",
    "seamless", "window_px", "upscale", "strength", "label",
)  # fmt: skip
UNTOLD: dict[str, tuple[Any, ...]] = {
    "loras": ([],), "rescale": (0,), "seamless": (False,), "window_px": (0,), "upscale": (1,), "strength": (1,),
}  # fmt: skip


def recipe_line(path: Path) -> str:
    """Model, sampler, steps, guidance, size and seed of a tile; empty for a picture that is none."""
    try:
        recipe: dict[str, Any] = read_recipe(path)
    except StudioError:
        return ""
    steps, guidance, seed = recipe.get("steps"), recipe.get("guidance"), recipe.get("seed")
    size = f"{recipe['width_px']}×{recipe['height_px']}" if recipe.keys() >= {"width_px", "height_px"} else ""
    parts = [
        recipe.get("model"),
        recipe.get("sampler"),
        f"{steps} steps" if steps is not None else "",
        f"guidance {run_facts.said(guidance)}" if guidance is not None else "",
        size,
        f"seed {seed}" if seed is not None else "",
    ]
    return shown_line(" · ".join(str(part) for part in parts if part), 200)


def recipe_lines(tile: CatalogTile, path: Path) -> Content:
    """Prompt, negative prompt, and how the tile was made."""
    try:
        recipe: dict[str, Any] = read_recipe(path)
    except StudioError as error:
        return Content(f"{shown(tile.prompt)}\n\n{shown(error.message)}")
    lines = [Content.assemble(("Prompt", "bold $primary")), Content(f"  {shown(recipe.get('prompt', ''))}")]
    if recipe.get("negative"):
        lines += [Content.assemble(("Negative", "bold $primary")), Content(f"  {shown(recipe['negative'])}")]
    lines.append(Content(""))
    told = {key: recipe[key] for key in SHOWN_FIRST if key in recipe and recipe[key] not in UNTOLD.get(key, (None, ""))}
    rows = {"batch": tile.batch, **told}
    if recipe.get("init_sha256"):
        rows["began from"] = "a picture, masked" if recipe.get("mask_sha256") else "a picture"
    rows["file"] = path.name
    if tile.rating:
        rows["rating"] = f"{tile.rating} of 5"
    for key, value in rows.items():
        text = run_facts.said(value) if key != "seed" else str(value)
        lines.append(Content.assemble((f"{key.replace('_px', ''):<11}", "$foreground 65%"), shown_line(text, 80)))
    return Content("\n").join(lines)
