"""Tiles side by side that differ in one, two or three settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from screens.form_screen import FormScreen
from studio.settings import GenerateSettings, GridSettings

if TYPE_CHECKING:
    from screens.shell import StudioApp
    from studio.jobs import Job

# What up and down offer; anything else that can be varied is written in the same way.
AXES = [
    "steps=10,20,50", "guidance=2,5,7.5", "seed=42..45", "sampler=ddim,dpm++2m,unipc", "rescale=0,0.7",
    "weights=base,tuned", "lora=0.5,0.8,1", "prompt={a satellite image of a river|a satellite image of a forest}",
]  # fmt: skip


def ask_for_grid(
    app: StudioApp, tiles: GenerateSettings, prompt: str, negative: str, begun: Callable[[Job, str], None]
) -> None:
    """Open the form of a grid around what the Prompt screen says; `begun` follows the job."""

    def begin(settings: GridSettings) -> None:
        from studio import requests

        begun(requests.grid_job(app.workspace, settings, device=app.session.device), "a grid")

    values = {
        "x": AXES[0],
        "y": AXES[1],
        "prompt": prompt,
        "negative": negative,
        "tiles": tiles.model_dump(mode="json"),
    }
    offered = dict.fromkeys(("x", "y", "z"), AXES)
    app.push_screen(FormScreen("Grid", GridSettings, values, begin, offered, ("tiles",)))
