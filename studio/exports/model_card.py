"""What an exported model says of itself: a card for people and the hub, and notes in the header of its files."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tomlkit

from studio import __version__, config
from studio.datasets.dataset import open_dataset
from studio.display import shown_line
from studio.errors import StudioError
from studio.exports.card import markdown
from studio.models.modelspec import modelspec
from studio.models.registry import ModelRef
from studio.runs import RunState, state_of
from studio.settings import LoraMethod, TrainSettings
from studio.workspace import Workspace

LICENCE_UNKNOWN = "not stated: the terms of the base model and of the data go with it"
CAUTION = "Makes remote-sensing pictures that show no real place. Not for use where they could be taken for evidence."
_BASE_VERSIONS = {
    "stable-diffusion-v1": "sd_v1",
    "stable-diffusion-v2-512": "sd_v2",
    "stable-diffusion-v2-768-v": "sd_v2_v",
    "stable-diffusion-xl-v1-base": "sdxl_base_v1-0",
}


@dataclass(frozen=True)
class Origin:
    """Where an exported model comes from."""

    ref: ModelRef
    settings: TrainSettings
    state: RunState
    step: int
    architecture: str
    data: dict[str, str]
    licence: str
    licence_tag: str
    """The licence as the hub spells it, where the base says so."""

    @property
    def is_lora(self) -> bool:
        return isinstance(self.settings.method, LoraMethod)

    @property
    def base(self) -> str:
        """The base as others may know it: not where it lies on this machine."""
        return Path(self.settings.base).name if Path(self.settings.base).is_absolute() else self.settings.base


def origin_of(workspace: Workspace, ref: ModelRef, run: Path, architecture: str) -> Origin:
    """What is known of a run's checkpoint.

    Raises:
        SettingsError: the run's config.toml has faults.
    """
    values = config.read_toml(run / "config.toml").get("settings", {})
    settings = config.check(values, TrainSettings, str(run / "config.toml"))
    step = int(ref.name.rpartition("@")[2])
    licence, tag = _licence(ref.folder / "README.md")
    return Origin(ref, settings, state_of(run), step, architecture, _data(workspace, settings), licence, tag)


def write_settings(folder: Path, run: Path, origin: Origin) -> None:
    """The run's config.toml without where the base lies on this machine."""
    record = tomlkit.parse((run / "config.toml").read_text("utf-8"))
    record["settings"]["base"] = origin.base
    (folder / "config.toml").write_text(tomlkit.dumps(record), encoding="utf-8")


def model_card(origin: Origin, loading: str, what: str) -> str:
    """Markdown with the header that the hub reads.

    Args:
        loading: Python lines that load it.
        what: the form, in words.
    """
    header = {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        **({"license": origin.licence_tag} if origin.licence_tag else {}),
        "base_model": shown_line(origin.base),
        "tags": ["remote-sensing", "text-to-image", "diffusers", *(["lora"] if origin.is_lora else [])],
    }
    lines = "\n".join(f"{name}: {json.dumps(value)}" for name, value in header.items())
    rows = "\n".join(f"| {name} | {markdown(value)} |" for name, value in facts(origin).items())
    code = f"\n```python\n{loading}\n```\n" if loading else ""
    return (
        f"---\n{lines}\n---\n\n# {markdown(origin.ref.name)}\n\n{what} {CAUTION}\n\n| | |\n|---|---|\n{rows}\n{code}\n"
        f"All settings are in config.toml. Made with rs-studio {__version__}.\n"
    )


def facts(origin: Origin) -> dict[str, str]:
    """Base, data, recipe, steps, losses and licence, in words."""
    settings, optimiser = origin.settings, origin.settings.optimiser
    losses = [one.loss for one in origin.state.validations if one.step <= origin.step]
    method = {name: one for name, one in settings.method.model_dump(mode="json").items() if one}
    effective = optimiser.effective_batch
    rate = f"{optimiser.learning_rate:g}, {optimiser.schedule}"
    return {
        "base model": origin.base,
        "weights of base and adapter (sha256)": origin.ref.weights_sha256(),
        "method": " ".join(f"{name} {value}" for name, value in method.items() if name != "targets"),
        **origin.data,
        "checkpoint": f"{origin.ref.name}, of {optimiser.steps} steps",
        "pictures seen": f"{origin.step * effective} ({effective} a step)",
        "size": f"{settings.data.size_px} px",
        "optimiser": f"{optimiser.name}, learning rate {rate}, {optimiser.precision}",
        "objective": "that of the base" if settings.objective == "base" else settings.objective,
        "seed": str(settings.seed),
        "validation loss": f"{losses[0]:.4f} at first, {losses[-1]:.4f} at last" if losses else "not measured",
        "licence": origin.licence,
    }


def header_notes(origin: Origin, part: str = "") -> dict[str, str]:
    """ModelSpec fields, and kohya's names for what was trained with, for the header of each safetensors file.

    Args:
        part: lora, unet, vae, text_encoder or text_encoder_2.
    """
    settings, optimiser = origin.settings, origin.settings.optimiser
    data = ", ".join(f"{name} {value}" for name, value in origin.data.items())
    notes = modelspec(
        shown_line(origin.ref.name),
        f"{origin.architecture}/{part}" if part else origin.architecture,
        size_px=settings.data.size_px,
        objective="" if settings.objective == "base" else settings.objective,
        description=f"Trained on {shown_line(data)} from {shown_line(origin.base)}. {CAUTION}",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        license=origin.licence,
        tags="remote sensing",
    )
    trained = {
        "ss_sd_model_name": shown_line(origin.base),
        "ss_base_model_version": _BASE_VERSIONS.get(origin.architecture, ""),
        "ss_output_name": shown_line(origin.ref.name),
        "ss_steps": origin.step,
        "ss_max_train_steps": optimiser.steps,
        "ss_learning_rate": optimiser.learning_rate,
        "ss_lr_scheduler": optimiser.schedule,
        "ss_lr_warmup_steps": optimiser.warmup_steps,
        "ss_optimizer": optimiser.name,
        "ss_mixed_precision": optimiser.precision,
        "ss_batch_size_per_device": optimiser.batch,
        "ss_gradient_accumulation_steps": optimiser.accumulation,
        "ss_seed": settings.seed,
        "ss_resolution": f"({settings.data.size_px}, {settings.data.size_px})",
        "ss_caption_dropout_rate": settings.data.caption_dropout,
        "ss_min_snr_gamma": optimiser.min_snr_gamma or "",
        "ss_noise_offset": optimiser.offset_noise or "",
    }
    return notes | {name: str(value) for name, value in trained.items()}


def _data(workspace: Workspace, settings: TrainSettings) -> dict[str, str]:
    name, split = settings.data.name, settings.data.split
    told = {"data set": f"{name}:{split}"}
    try:
        dataset = open_dataset(workspace, name)
        pictures, sha256 = dataset.splits[split], dataset.split_sha256(split)
    except (StudioError, KeyError, OSError):
        return told  # deleted since, or of another form: what the run says of it is all there is
    return told | {"pictures": str(pictures), "split (sha256)": sha256}


def _licence(card: Path) -> tuple[str, str]:
    """What the card of a base model says: in words, and as the hub spells it."""
    try:
        _, header, _ = card.read_text("utf-8").split("---", 2)
    except (OSError, ValueError):
        return LICENCE_UNKNOWN, ""
    fields = {key.strip(): value.strip(" \"'") for key, _, value in (one.partition(":") for one in header.splitlines())}
    tag = shown_line(fields.get("license", ""), 80)
    name = shown_line(fields.get("license_name", "") or tag, 80)
    return (f"{name}, as its base model; the terms of the data go with it", tag) if tag else (LICENCE_UNKNOWN, "")
