"""The whole circle on built-in data and model: import, train, generate, evaluate, study, export."""

from collections.abc import Iterator
from pathlib import Path

from studio import requests, sources
from studio.datasets.captions import readable_class
from studio.datasets.dataset import FACTS
from studio.datasets.terrain import CLASSES
from studio.generation.plans import PromptLine, plan_tiles
from studio.jobs import Job
from studio.runs import JobFolder, state_of
from studio.settings import DownstreamSettings, EvaluateSettings, ExportSettings, GenerateSettings, ImportSettings
from studio.workspace import Workspace, make_workspace

DATA, RUN, BATCH = "demo", "demo-lora", "demo-tiles"
PICTURES, HELD_OUT, TILES = 560, 140, 140


def demo_jobs(workspace: Workspace, device: str = "cpu") -> Iterator[Job]:
    """The jobs of the circle in their order; each is made when the one before has ended, and done ones are left out."""
    make_workspace(workspace.root)
    if not (workspace.datasets / DATA / FACTS).is_file():
        source = f"demo:{PICTURES}"
        yield requests.import_job(workspace, ImportSettings(source=source, name=DATA, format="demo", hold_out=HELD_OUT))
    if not _is_completed(workspace.taken_names().get(RUN)):
        yield requests.train_job(workspace, sources.load_recipe(workspace, "demo", DATA), RUN, device)
    if not _is_completed(workspace.batches / BATCH):
        settings = GenerateSettings(model=workspace.run(RUN).name, batch=16)
        lines = [PromptLine(f"a satellite image of {readable_class(label)}", label=label) for label in CLASSES]
        yield requests.generate_job(workspace, settings, plan_tiles(lines, TILES, settings.seed), BATCH, device)
    if evaluation(workspace, "evaluate") is None:
        yield requests.evaluate_job(workspace, EvaluateSettings(generated=BATCH, real=DATA), device)
    if evaluation(workspace, "downstream") is None:
        study = DownstreamSettings(synthetic=BATCH, real=DATA, epochs=6)
        yield requests.downstream_job(workspace, study, device)
    for form, target in targets(workspace).items():
        if not target.exists():
            yield requests.export_job(workspace, ExportSettings(name=BATCH, to=form, target=str(target)))


def targets(workspace: Workspace) -> dict[str, Path]:
    """Where the demo's exports go."""
    parent = workspace.exports / "demo"
    return {
        "gallery": parent / "gallery",
        "contact-sheet": parent / "contact-sheet.png",
        "image-folder": parent / "image-folder",
        "parquet": parent / "parquet",
    }


def evaluation(workspace: Workspace, kind: str) -> Path | None:
    """The newest completed evaluation of the demo's tiles, of a kind."""
    name = BATCH if kind == "evaluate" else f"{BATCH}-downstream"
    found = [path for path in sorted(workspace.evaluations.glob(f"*-{name}")) if _is_completed(path)]
    return found[-1] if found else None


def _is_completed(folder: Path | None) -> bool:
    return folder is not None and JobFolder(folder).journal_path.is_file() and state_of(folder).status == "completed"
