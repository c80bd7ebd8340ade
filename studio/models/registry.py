"""Which model a name means: the starter, a run's checkpoint, or a folder in diffusers layout; without torch."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli

from studio import files
from studio.errors import StudioError, UsageError, unknown
from studio.models import checkpoints
from studio.workspace import STARTER, Workspace, numbered_folders

COMPONENTS = ("unet", "vae", "text_encoder")
_MAX_HEADER_BYTES = 100_000_000
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class ModelRef:
    """Where the parts of a model lie; a run adds its own to those of its base."""

    name: str
    folder: Path
    unet: Path | None = None
    """Folder of a fully fine-tuned UNet that takes the base's place."""
    lora: Path | None = None
    """LoRA weights laid over the UNet, in diffusers layout."""
    objective: str | None = None
    """What the UNet predicts, where a run changed it."""

    @property
    def unet_folder(self) -> Path:
        return self.unet or self.folder / "unet"

    def weights_sha256(self) -> str:
        """One sum over the weights of every part, in a fixed order."""
        parts = [self.unet_folder, self.folder / "vae", self.folder / "text_encoder"]
        paths = [weights_file(part) for part in parts] + ([self.lora] if self.lora else [])
        return files.sha256_of_texts(files.sha256_of(path) for path in paths)

    def vae_sha256(self) -> str:
        return files.sha256_of(weights_file(self.folder / "vae"))

    def text_encoder_sha256(self) -> str:
        return files.sha256_of(weights_file(self.folder / "text_encoder"))

    def defaults(self) -> dict[str, Any]:
        """Generation settings that suit the model, from its folder's studio.json; empty where it has none."""
        path = self.folder / "studio.json"
        values: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return values


def resolve(workspace: Workspace, name: str) -> ModelRef:
    """The model that a name means.

    Args:
        name: starter, RUN, RUN@STEP, or a folder in diffusers layout.

    Raises:
        UsageError: there is no such model, or it cannot be used safely.
    """
    if name == "starter":
        return _checked(ModelRef("starter", STARTER))
    if Path(name).is_dir() and (Path(name) / "model_index.json").is_file():
        return _checked(ModelRef(name, Path(name).resolve()))
    if Path(name).is_file():
        raise _refuse_file(Path(name))
    run_name, _, step = name.partition("@")
    try:
        run = workspace.run(run_name)
    except UsageError:
        if Path(name).is_dir():
            raise UsageError(f"{name} is not a model in diffusers layout: it has no model_index.json.") from None
        known = ["starter", *(path.name.partition("-")[2] for path in numbered_folders(workspace.runs))]
        raise unknown("model", name, known) from None
    return _of_run(workspace, run, step)


def _of_run(workspace: Workspace, run: Path, step: str) -> ModelRef:
    if step and not step.isdigit():
        raise UsageError(f"{step!r} is not a step.", f"Write {run.name}@500.")
    checkpoint = checkpoints.at_step(run, int(step)) if step else checkpoints.newest(run)
    if checkpoint is None:
        steps = ", ".join(str(checkpoints.step_of(path)) for path in checkpoints.all_of(run)) or "none yet"
        raise UsageError(
            f"Run {run.name} has no whole checkpoint{f' at step {step}' if step else ''}.", f"It has: {steps}."
        )
    name = f"{run.name}@{checkpoints.step_of(checkpoint)}"
    state = json.loads((checkpoint / "state.json").read_text())
    if (checkpoint / "model").is_dir():
        return _checked(ModelRef(name, checkpoint / "model"))
    if (checkpoint / "vae").is_dir():
        raise UsageError(f"Run {run.name} trained an autoencoder, which makes no tiles by itself.")
    config = tomli.loads((run / "config.toml").read_text())
    base = replace(resolve(workspace, config["settings"]["base"]), name=name, objective=state.get("objective"))
    lora = checkpoint / "lora" / "pytorch_lora_weights.safetensors"
    if lora.is_file():
        check_safetensors(lora)
        return replace(base, lora=lora)
    check_safetensors(weights_file(checkpoint / "unet"))
    return replace(base, unet=checkpoint / "unet", lora=None)


def autoencoder_folder(workspace: Workspace, name: str) -> Path:
    """The folder of the autoencoder that a name means: of a model, or of a run that trained one."""
    try:
        run = workspace.run(name)
    except UsageError:
        return resolve(workspace, name).folder / "vae"
    checkpoint = checkpoints.newest(run)
    if checkpoint is None:
        raise UsageError(f"Run {run.name} has no whole checkpoint yet.")
    folder = checkpoint / "vae"
    return folder if folder.is_dir() else resolve(workspace, name).folder / "vae"


def weights_file(component: Path) -> Path:
    """The safetensors file of one component.

    Raises:
        UsageError: there is none; where there are pickles instead, it says how to convert them.
    """
    candidates = sorted(component.glob("*.safetensors")) if component.is_dir() else []
    whole = [path for path in candidates if "fp16" not in path.name and "-of-" not in path.name]
    if whole or candidates:
        return (whole or candidates)[0]
    pickles = [path.name for path in component.glob("*") if path.suffix in _PICKLES] if component.is_dir() else []
    if pickles:
        raise UsageError(
            f"{component} holds only pickled weights ({pickles[0]}), which can run code.",
            "Convert them to safetensors on a machine you can lose, and point here again.",
        )
    raise UsageError(f"{component} holds no weights.", "A diffusers folder has <component>/*.safetensors.")


def check_safetensors(path: Path) -> None:
    """Look at what a file is, not at what it is called.

    Raises:
        UsageError: it is not a safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 2 <= length <= _MAX_HEADER_BYTES and length + 8 <= path.stat().st_size:
            try:
                if isinstance(json.loads(file.read(length)), dict):
                    return
            except ValueError:
                pass
    raise UsageError(
        f"{path} is not a safetensors file, whatever its name says.",
        "Only safetensors are opened, since pickles can run code.",
    )


def _checked(ref: ModelRef) -> ModelRef:
    if not (ref.folder / "model_index.json").is_file():
        raise StudioError(f"{ref.name} is not there: {ref.folder} holds no model.", "Install rs-studio again.")
    for component in COMPONENTS:
        check_safetensors(weights_file(ref.folder / component))
    return ref


def _refuse_file(path: Path) -> UsageError:
    if path.suffix == ".safetensors":
        check_safetensors(path)
        return UsageError(f"{path} is a single file; a folder in diffusers layout is needed.")
    return UsageError(
        f"{path} is not a model that can be opened.", "Name a folder in diffusers layout with safetensors."
    )
