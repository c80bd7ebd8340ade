"""The two sides of a training benchmark: the same model, tiles and settings for the studio and for a peer's script."""

import json
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stamped
from narrow_model import NARROW, save_model, save_tiles

from studio import requests
from studio.session import Session
from studio.settings import ImportSettings, TrainSettings
from studio.workspace import Workspace, make_workspace

RANK, SEED, RATE = 16, 42, 1e-6
TILES = "tiles"
_NEVER = 1_000_000


@dataclass(frozen=True)
class Shape:
    """What is trained, and in which portions."""

    method: str
    """lora, or full."""
    steps: int
    size_px: int = 256
    batch: int = 4
    accumulation: int = 1
    precision: str = "bf16"
    """Of the studio's side; the peer is told its own."""


@dataclass(frozen=True)
class Bench:
    """A folder with a model, tiles and a workspace in which those tiles are a data set."""

    folder: Path
    device: str = "cpu"
    threads: int = 1

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def tiles(self) -> Path:
        return self.folder / TILES

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "workspace")

    def environment(self) -> dict[str, str]:
        offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.folder / "hub")}
        if self.device == "cpu":
            return offline | {"OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": ""}
        return offline

    def forget_caches(self) -> None:
        """Let the next run encode everything again."""
        for folder in (self.workspace.cache, self.folder / "hub", self.folder / "peer-cache"):
            shutil.rmtree(folder, ignore_errors=True)

    def run_peer(self, script: Path, shape: Shape, others: list[str]) -> dict[str, Any]:
        """A script of diffusers' examples, unmodified."""
        told = {
            "pretrained_model_name_or_path": self.model, "train_data_dir": self.tiles, "resolution": shape.size_px,
            "train_batch_size": shape.batch, "gradient_accumulation_steps": shape.accumulation,
            "max_train_steps": shape.steps, "learning_rate": RATE, "lr_warmup_steps": 0, "seed": SEED,
            "checkpointing_steps": _NEVER, "output_dir": self.folder / "peer", "cache_dir": self.folder / "peer-cache",
        } | ({"rank": RANK} if shape.method == "lora" else {})  # fmt: skip
        arguments = [f"--{name}={value}" for name, value in told.items()] + ["--random_flip", *others]
        try:
            return stamped.run(["peer", str(script), *arguments], self.folder / "stamps-peer.json", self.environment())
        finally:
            shutil.rmtree(self.folder / "peer", ignore_errors=True)

    def run_own(self, shape: Shape) -> dict[str, Any]:
        """The studio's trainer, as the command line starts it."""
        path = self.folder / "settings.json"
        path.write_text(json.dumps(own_settings(self, shape)))
        name = requests.free_run_name(self.workspace, shape.method)
        try:
            return stamped.run(
                ["own", str(self.workspace.root), str(path), name], self.folder / "stamps-own.json", self.environment()
            )
        finally:
            for run in self.workspace.runs.glob(f"*-{name}"):
                shutil.rmtree(run)


def own_settings(bench: Bench, shape: Shape) -> dict[str, Any]:
    """The studio's settings that mean what the peer is told: one flip, every picture with its caption."""
    told = {
        "base": str(bench.model),
        "seed": SEED,
        "method": {"name": "lora", "rank": RANK, "alpha": RANK} if shape.method == "lora" else {"name": "full"},
        "data": {
            "name": TILES, "size_px": shape.size_px, "orientations": ["identity", "flip"], "caption_dropout": 0.0,
        },
        "optimiser": {
            "steps": shape.steps, "batch": shape.batch, "accumulation": shape.accumulation, "learning_rate": RATE,
            "precision": shape.precision,
        },
        "saving": {
            "checkpoint_every": _NEVER, "validate_every": _NEVER, "preview_every": _NEVER, "preview_prompts": [],
            "validation_images": 4,
        },
    }  # fmt: skip
    return TrainSettings.model_validate(told).model_dump(mode="json")


def set_up(
    folder: Path, config: Path, count: int, size_px: int, device: str = "cpu", over: dict[str, Any] = NARROW
) -> Bench:
    """Make model, tiles and workspace; a folder that has them is used again."""
    bench = Bench(folder, device)
    if not (bench.model / "model_index.json").is_file():
        save_model(config, bench.model, over)
    if not (bench.tiles / "train" / "metadata.jsonl").is_file():
        save_tiles(bench.tiles, count, size_px)
    if not (bench.workspace.datasets / TILES).is_dir():
        workspace = make_workspace(bench.workspace.root)
        settings = ImportSettings(source=str(bench.tiles), name=TILES, hold_out=4)
        finished = Session(workspace).execute(requests.import_job(workspace, settings))
        if finished.outcome != "completed":
            raise SystemExit(finished.message)
    return bench


def step_seconds(noted: dict[str, Any], unit: str, pictures: int, warm_up: int = 1) -> float:
    """Seconds for one picture, without the first steps, all before them, and what was cached between steps.

    Args:
        unit: cpu, or clock.
        pictures: of one step.
        warm_up: steps left out.
    """
    steps = [stamp for stamp in noted["stamps"] if stamp["what"] == "step"][warm_up - 1 :]
    began, ended = steps[0][unit], steps[-1][unit]
    caching = sum(end - start for _, start, end, _ in phases(noted, unit) if start >= began)
    return float(ended - began - caching) / ((len(steps) - 1) * pictures)


def cache_seconds(noted: dict[str, Any], unit: str) -> dict[str, float]:
    """Seconds for one of each thing that the studio kept in its caches, by the name of the phase."""
    spent, made = defaultdict[str, float](float), defaultdict[str, int](int)
    for name, start, end, total in phases(noted, unit):
        spent[name] += end - start
        made[name] += total
    return {name: spent[name] / made[name] for name in made}


def phases(noted: dict[str, Any], unit: str) -> Iterator[tuple[str, float, float, int]]:
    """Name, begin and end of each phase that was done, and how many things it was of."""
    began = dict[str, float]()
    for stamp in noted["stamps"]:
        if stamp["what"] == "phase" and stamp["done"] == 0:
            began[stamp["name"]] = stamp[unit]
        elif stamp["what"] == "phase" and stamp["done"] == stamp["total"]:
            yield stamp["name"], began[stamp["name"]], stamp[unit], stamp["total"]


def spread(values: list[float]) -> dict[str, float | list[float]]:
    """The median, and every value, so that a reader sees how far they lie apart."""
    return {"median": round(statistics.median(values), 4), "all": [round(one, 4) for one in values]}
