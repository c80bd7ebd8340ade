"""Which model a name means: the starter, a run's checkpoint, or a folder in diffusers layout; without torch."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli
from pydantic import Field

from studio import config, files
from studio.errors import StudioError, UsageError, unknown
from studio.models import checkpoints
from studio.settings import Sampler
from studio.workspace import STARTER, Workspace, numbered_folders

COMPONENTS = ("unet", "vae", "text_encoder")
# The names that diffusers and transformers load, so that what is checked and summed is what is opened.
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_NEEDED = (*(f"{component}/config.json" for component in COMPONENTS), "scheduler/scheduler_config.json")
_MAX_HEADER_BYTES = 100_000_000
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


class Defaults(config.Model):
    """studio.json of a model folder: generation settings that suit the model."""

    sampler: Sampler | None = None
    """Sampler it was tried with."""
    steps: int | None = Field(None, ge=1, le=1000)
    """Sampling steps of that sampler."""
    guidance: float | None = Field(None, ge=0, le=50)
    """Guidance."""


@dataclass(frozen=True)
class ModelRef:
    """Where the parts of a model lie; a run adds its own to those of its base."""

    name: str
    folder: Path
    unet: Path | None = None
    """Folder of a fully fine-tuned UNet that takes the base's place."""
    lora: Path | None = None
    """LoRA weights laid over the UNet, in diffusers layout."""
    under: tuple[Path, ...] = ()
    """LoRA weights laid over it before those, where a run began from a LoRA run."""
    objective: str | None = None
    """What the UNet predicts, where a run changed it."""

    @property
    def unet_folder(self) -> Path:
        return self.unet or self.folder / "unet"

    @property
    def loras(self) -> list[Path]:
        """Every LoRA over the UNet, in the order in which they are laid on."""
        return [*self.under, *([self.lora] if self.lora else [])]

    def weights_sha256(self) -> str:
        """One sum over the weights of every part, in a fixed order."""
        parts = [self.unet_folder, self.folder / "vae", self.folder / "text_encoder"]
        paths = [weights_file(part) for part in parts] + self.loras
        return files.sha256_of_texts(files.sha256_of(path) for path in paths)

    def vae_sha256(self) -> str:
        return files.sha256_of(weights_file(self.folder / "vae"))

    def text_encoder_sha256(self) -> str:
        return files.sha256_of(weights_file(self.folder / "text_encoder"))

    def defaults(self) -> Defaults:
        """Generation settings that suit the model; empty where its folder has no studio.json.

        Raises:
            UsageError: the file is there and has faults.
        """
        path = self.folder / "studio.json"
        return config.check(_json_of(path), Defaults, str(path)) if path.is_file() else Defaults()


def resolve(workspace: Workspace, name: str) -> ModelRef:
    """The model that a name means.

    Args:
        name: starter, RUN, RUN@STEP, or a folder in diffusers layout.

    Raises:
        UsageError: there is no such model, or it cannot be used safely.
    """
    if name == "starter":
        return _checked(ModelRef("starter", STARTER))
    if not name:
        raise UsageError("No model is named.", "Name starter, a run, or a folder in diffusers layout.")
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
    if step and not step.isdecimal():
        raise UsageError(f"{step!r} is not a step.", f"Write {run.name}@500.")
    checkpoint = checkpoints.at_step(run, int(step)) if step else checkpoints.chosen(run)
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
        return replace(base, lora=lora, under=tuple(base.loras))
    check_safetensors(weights_file(checkpoint / "unet"))
    return replace(base, unet=checkpoint / "unet", lora=None, under=())


def autoencoder_folder(workspace: Workspace, name: str) -> Path:
    """The folder of the autoencoder that a name means: of a model, or of a run that trained one."""
    if name == "starter":  # as in `resolve`, whatever runs are called
        return resolve(workspace, name).folder / "vae"
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
    """The safetensors file of one component, the one that the libraries load.

    Raises:
        UsageError: there is none; where there are pickles instead, it says how to convert them.
    """
    found = {path.name: path for path in component.iterdir()} if component.is_dir() else {}
    # An index and an adapter each name further files, of any kind and anywhere, and the libraries follow them.
    leading = [name for name in found if name.endswith(".index.json") or name == "adapter_config.json"]
    if leading:
        raise UsageError(f"{component} is in several parts ({leading[0]}).", "Save it as one safetensors file.")
    stock = next((found[name] for name in _WEIGHTS if name in found), None)
    if stock is not None:
        return stock
    others = sorted(name for name in found if name.endswith(".safetensors"))
    if others:
        raise UsageError(f"{component} has weights under another name, {others[0]}.", f"Call them {_WEIGHTS[0]}.")
    pickles = sorted(name for name in found if name.endswith(_PICKLES))
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
    kind = _json_of(ref.folder / "model_index.json").get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise UsageError(f"{ref.name} is a {kind}; models of Stable Diffusion 1.x's shape can be used.")
    for component in COMPONENTS:
        check_safetensors(weights_file(ref.folder / component))
    tokenizer = ref.folder / "tokenizer"
    missing = [name for name in _NEEDED if not (ref.folder / name).is_file()]
    if not (tokenizer / "tokenizer.json").is_file() and not (tokenizer / "vocab.json").is_file():
        missing.append("tokenizer/vocab.json")
    if missing:
        raise UsageError(f"{ref.name} is incomplete: it has no {', '.join(missing)}.", "Download or save it again.")
    return ref


def _json_of(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}).") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no settings.")
    return values


def _refuse_file(path: Path) -> UsageError:
    if path.suffix == ".safetensors":
        check_safetensors(path)
        return UsageError(f"{path} is a single file; a folder in diffusers layout is needed.")
    return UsageError(
        f"{path} is not a model that can be opened.", "Name a folder in diffusers layout with safetensors."
    )
