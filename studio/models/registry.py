"""Which model a name means: the starter, a run's checkpoint, a folder, a file or one of the hub; without torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli
from pydantic import Field

from studio import config, files
from studio.errors import NotFetched, UsageError, unknown
from studio.models import checkpoints, families, stored
from studio.models.layout import check_folder, read_settings
from studio.models.weights import check_safetensors, read_header, weights_file, weights_sums
from studio.settings import Sampler
from studio.workspace import STARTER, Workspace, numbered_folders


class Defaults(config.Model):
    """studio.json of a model folder: generation settings that suit the model."""

    sampler: Sampler | None = None
    """Sampler it was tried with."""
    steps: int | None = Field(None, ge=1, le=1000)
    """Sampling steps of that sampler."""
    guidance: float | None = Field(None, ge=0, le=50)
    """Guidance."""


@dataclass(frozen=True)
class ExtraLora:
    """A LoRA file laid over a model for some tiles."""

    name: str
    """What it was called, pinned: FILE:STRENGTH or RUN@STEP:STRENGTH."""
    path: Path
    strength: float


Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of red, green and blue, from 0 to 1."""


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
    normalisation: Normalisation | None = None
    """By which a run normalised its pictures, as a variant to be compared with."""
    extra: tuple[ExtraLora, ...] = ()
    """LoRA files laid over the whole in the end."""

    @property
    def unet_folder(self) -> Path:
        return self.unet or self.folder / "unet"

    @property
    def loras(self) -> list[Path]:
        """Every LoRA over the UNet, in the order in which they are laid on."""
        return [*self.under, *([self.lora] if self.lora else [])]

    @property
    def text_loras(self) -> list[Path]:
        """Those of the LoRAs that lie over the text encoders too."""
        return [path for path in self.loras if any(name.startswith("text_encoder") for name in read_header(path))]

    @property
    def text_encoders(self) -> list[Path]:
        """Folders of the text encoders: one, or the two of Stable Diffusion XL."""
        both = (self.folder / "text_encoder", self.folder / "text_encoder_2")
        return [both[0], both[1]] if both[1].is_dir() else [both[0]]

    def weights_sha256(self) -> str:
        """One sum over the weights of every part, in a fixed order."""
        sums = [
            one for part in (self.unet_folder, self.folder / "vae", *self.text_encoders) for one in weights_sums(part)
        ]
        sums += [files.sha256_of(path) for path in self.loras]
        sums += [f"{files.sha256_of(one.path)}:{one.strength:g}" for one in self.extra]
        return files.sha256_of_texts(sums)

    def vae_sha256(self) -> str:
        return files.sha256_of(weights_file(self.folder / "vae"))

    def text_encoder_sha256(self) -> str:
        sums = [one for part in self.text_encoders for one in weights_sums(part)]
        sums += [files.sha256_of(path) for path in self.text_loras]
        return sums[0] if len(sums) == 1 else files.sha256_of_texts(sums)

    def defaults(self) -> Defaults:
        """Generation settings that suit the model; empty where its folder has no studio.json.

        Raises:
            UsageError: the file is there and has faults.
        """
        path = self.folder / "studio.json"
        return config.check(read_settings(path), Defaults, str(path)) if path.is_file() else Defaults()


def resolve(workspace: Workspace, name: str, loras: Sequence[str] = ()) -> ModelRef:
    """The model that a name means.

    Args:
        loras: laid over it for this time, each FILE[:STRENGTH] or RUN[@STEP][:STRENGTH].
        name: starter, RUN, RUN@STEP, a folder in diffusers layout, FILE.safetensors, or OWNER/NAME[@REVISION] of the
            hub. The last two are opened once and then kept in the workspace; see `studio.fetching.fetch_model`.

    Raises:
        NotFetched: it is of the hub, or a file, and was not fetched yet.
        UsageError: there is no such model, or it cannot be used safely.
    """
    if loras:
        return replace(resolve(workspace, name), extra=tuple(_extra_lora(workspace, text) for text in loras))
    if name == "starter":
        return _checked(ModelRef("starter", STARTER))
    if not name:
        raise UsageError("No model is named.", "Name starter, a run, or a folder in diffusers layout.")
    if Path(name).is_dir() and (Path(name) / "model_index.json").is_file():
        return _checked(ModelRef(name, Path(name).resolve()))
    if Path(name).is_file():
        return _of_file(workspace, Path(name).resolve())
    run_name, _, step = name.partition("@")
    try:
        run = workspace.run(run_name)
    except UsageError:
        if Path(name).is_dir():
            raise UsageError(f"{name} is not a model in diffusers layout: it has no model_index.json.") from None
        if stored.is_hub_name(name):
            return _of_hub(workspace, name)
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
        return _checked(ModelRef(name, checkpoint / "model", normalisation=state.get("normalisation")))
    if (checkpoint / "vae").is_dir():
        raise UsageError(f"Run {run.name} trained an autoencoder, which makes no tiles by itself.")
    config = tomli.loads((run / "config.toml").read_text())
    learnt = {"objective": state.get("objective"), "normalisation": state.get("normalisation")}
    base = replace(resolve(workspace, config["settings"]["base"]), name=name, **learnt)
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


def _extra_lora(workspace: Workspace, text: str) -> ExtraLora:
    source, strength = text, 1.0
    head, colon, tail = text.rpartition(":")
    if colon and not Path(text).is_file():
        try:
            source, strength = head, float(tail)
        except ValueError:
            raise UsageError(f"{tail!r} is no strength of a LoRA.", "Write --lora FILE:0.8.") from None
    if not -10 <= strength <= 10:
        raise UsageError(f"The strength {tail} of {source} is out of reach.", "Usual are 0 to 1.")
    if Path(source).is_file():
        path = Path(source).resolve()
        check_safetensors(path)
        return ExtraLora(f"{path}:{strength:g}", path, strength)
    if source.endswith(".safetensors"):
        raise UsageError(f"There is no file {source}.", "Write --lora FILE:0.8.")
    run, _, step = source.partition("@")
    ref = _of_run(workspace, workspace.run(run), step)
    if ref.lora is None:
        raise UsageError(f"{source} learnt no LoRA.", "Name a run of method lora, or a file.")
    return ExtraLora(f"{ref.name}:{strength:g}", ref.lora, strength)


def _of_file(workspace: Workspace, path: Path) -> ModelRef:
    if path.suffix != ".safetensors":
        raise UsageError(f"{path} is not a model that can be opened.", "Only .safetensors files and folders can.")
    families.family_of(path)
    folder = stored.folder_of_file(workspace, path)
    if not folder.is_dir():
        raise NotFetched(f"{path} has not been opened yet.", f"Run: rs-studio {workspace.root} model add {path}")
    return _checked(ModelRef(str(path), folder))


def _of_hub(workspace: Workspace, name: str) -> ModelRef:
    hub_id, _, revision = name.partition("@")
    for snapshot in stored.snapshots(workspace, hub_id, revision):
        try:
            return _checked(ModelRef(f"{hub_id}@{snapshot.name}", snapshot))
        except UsageError:
            if stored.is_ours(workspace, snapshot):
                raise
    raise NotFetched(
        f"There is no run and no folder named {name}, and no model of the hub by this name was downloaded.",
        f"To download it run: rs-studio {workspace.root} model add {name}",
    )


def _checked(ref: ModelRef) -> ModelRef:
    check_folder(ref.name, ref.folder)
    return ref
