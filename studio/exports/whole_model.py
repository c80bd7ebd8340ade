"""A run's model as a whole folder, which the stock pipeline opens without the base."""

import shutil
from pathlib import Path

from studio.exports.model_card import header_notes, model_card, origin_of, write_settings
from studio.models.load import DTYPES, load_model
from studio.models.modelspec import architecture_of, describe
from studio.models.registry import ModelRef, resolve
from studio.models.saving import pipeline_index, save_model
from studio.settings import ExportSettings
from studio.workspace import Workspace


def resolve_model(workspace: Workspace, name: str) -> ModelRef:
    """The checkpoint of RUN or RUN@STEP whose model can be exported.

    Raises:
        UsageError: there is no such run or checkpoint, or it trained no model of tiles.
    """
    workspace.run(name.partition("@")[0])  # a run, not the starter or a folder
    return resolve(workspace, name)


def write_model(folder: Path, workspace: Workspace, settings: ExportSettings) -> None:
    """Write every part, with what was learnt in its weights, and README.md and the run's settings beside them."""
    ref = resolve_model(workspace, settings.name)
    run = workspace.run(settings.name.partition("@")[0])
    model = load_model(ref, "cpu")
    save_model(model, folder, DTYPES[settings.precision])
    if (ref.folder / "studio.json").is_file():
        shutil.copyfile(ref.folder / "studio.json", folder / "studio.json")
    origin = origin_of(workspace, ref, run, architecture_of(dict(model.unet.config), model.objective))
    for path in sorted(folder.rglob("*.safetensors")):
        describe(path, header_notes(origin, path.parent.name) | {"modelspec.prediction_type": model.objective})
    write_settings(folder, run, origin)
    pipeline = pipeline_index(model)["_class_name"]
    loading = f'from diffusers import {pipeline}\n\npipeline = {pipeline}.from_pretrained("path/to/this/folder")'
    (folder / "README.md").write_text(model_card(origin, loading, "A whole model, in diffusers layout."), "utf-8")
