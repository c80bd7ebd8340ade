"""Single-file checkpoints of Stable Diffusion 1, 2 and XL, unpacked once into a folder in diffusers layout.

diffusers' own conversion is used; the settings that it would ask the hub for are read off the file's tensors.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from studio import files
from studio.errors import StudioError, UsageError
from studio.models import stored
from studio.models.families import Family, family_of
from studio.models.hub import Told, download
from studio.models.quiet import quiet_libraries
from studio.models.saving import save_part
from studio.models.single_file_settings import PREDICTIONS, settings_of, vocabulary_of
from studio.models.weights import read_header
from studio.workspace import Workspace

_FORMATS = {"F16": torch.float16, "BF16": torch.bfloat16}
_TOKENIZER_ID = "openai/clip-vit-large-patch14"
_TOKENIZER_FILES = ("vocab.json", "merges.txt")
_KNOWN_IDS = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0", _TOKENIZER_ID,
)  # fmt: skip


def unpack(workspace: Workspace, path: Path, tokenizer: Path | None, told: Told) -> Path:
    """Write the folder of a single file, in the number format of the file, and return it.

    Args:
        tokenizer: folder with CLIP's vocab.json and merges.txt; else one beside the file, of another model of this
            workspace, of the person's own cache of the hub, or from the hub is taken.

    Raises:
        UsageError: the file is no such checkpoint, or no tokenizer was found.
    """
    quiet_libraries()
    family, header = family_of(path), read_header(path)
    words = _tokenizer_for(workspace, path, vocabulary_of(header, family), tokenizer, told)
    told(f"Unpacking {path.name}", 0, 1)
    target = stored.folder_of_file(workspace, path)
    with files.whole_folder(target) as folder:
        predicts = PREDICTIONS.get(str((header.get("__metadata__") or {}).get("modelspec.prediction_type", "")))
        _write_settings(folder, settings_of(header, family, "v_prediction" in (predicts, _by_mark(header))))
        for name, pad in _tokenizers(family):
            _write_tokenizer(words, folder / name, pad)
        pipeline = _converted(path, folder, family, _format_of(header))
        if family == "sd2" and predicts is None and _predicts_v(pipeline.unet):
            _write_settings(folder, settings_of(header, family, predicts_v=True))
            pipeline.unet.register_to_config(sample_size=96)
        for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
            if getattr(pipeline, name, None) is not None:
                save_part(getattr(pipeline, name), folder / name)
    told(f"Unpacking {path.name}", 1, 1)
    return target


def _converted(path: Path, folder: Path, family: Family, dtype: torch.dtype) -> Any:
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    try:
        return kind.from_single_file(str(path), config=str(folder), local_files_only=True, torch_dtype=dtype)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is no whole checkpoint of its family ({error}).", "Download it again.") from None


def _predicts_v(unet: Any) -> bool:
    """Whether a UNet predicts v instead of the noise; the files of Stable Diffusion 2 do not say.

    At the last timestep the latents are nearly all noise: the noise is what came in, and v is hardly any of it
    (Salimans and Ho 2022, eq. 11: alpha · noise − sigma · x, alpha being 0.07 there).
    """
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    text = torch.zeros(1, 2, unet.config.cross_attention_dim)
    kept = unet.dtype
    with torch.inference_mode():
        said = unet.float()(noise, 999, encoder_hidden_states=text).sample
    unet.to(kept)
    return float((said * noise).mean() / noise.square().mean()) < 0.5


def _by_mark(header: dict[str, Any]) -> str | None:
    """Some checkpoints of XL hold an empty tensor of this name."""
    return "v_prediction" if "v_pred" in header else None


def _format_of(header: dict[str, Any]) -> torch.dtype:
    kind = header["model.diffusion_model.input_blocks.0.0.weight"]["dtype"]
    return _FORMATS.get(kind, torch.float32)


def _write_settings(folder: Path, settings: dict[str, dict[str, Any]]) -> None:
    for name, values in settings.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")


def _tokenizers(family: Family) -> list[tuple[str, str]]:
    """The tokenizers of a family with what each pads with: OpenCLIP's text encoders learnt with number 0."""
    first = ("tokenizer", "!" if family == "sd2" else "<|endoftext|>")
    return [first, ("tokenizer_2", "!")] if family == "sdxl" else [first]


def _write_tokenizer(source: Path, folder: Path, pad: str) -> None:
    folder.mkdir()
    for name in _TOKENIZER_FILES:
        shutil.copyfile(source / name, folder / name)
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": pad}, indent=2))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | special | {"pad_token": pad}, indent=2))


def _tokenizer_for(workspace: Workspace, path: Path, words: int, given: Path | None, told: Told) -> Path:
    """The first folder with a tokenizer of as many words as the checkpoint knows."""
    if given is not None:
        if not _fits(given, words):
            raise UsageError(
                f"{given} holds no tokenizer of {words:,} words.",
                f"Name a folder with {' and '.join(_TOKENIZER_FILES)}.",
            )
        return given
    folders = [path.parent / "tokenizer"]
    folders += [folder / "tokenizer" for _, _, folder in stored.downloaded(workspace)]
    folders += [folder / "tokenizer" for folder in stored.unpacked(workspace)]
    for hub_id in _KNOWN_IDS:
        for snapshot in stored.snapshots(workspace, hub_id):
            folders += [snapshot / "tokenizer", snapshot]
    found = next((folder for folder in folders if _fits(folder, words)), None)
    if found is not None:
        return found
    try:
        return download(workspace, _TOKENIZER_ID, told, lambda hub_id, names: list(_TOKENIZER_FILES))
    except StudioError as error:
        raise UsageError(
            f"{path.name} holds no tokenizer, none is here, and none could be downloaded: {error.message}",
            "Give a folder with CLIP's vocab.json and merges.txt: model add FILE --tokenizer FOLDER",
        ) from None


def _fits(folder: Path, words: int) -> bool:
    if not all((folder / name).is_file() for name in _TOKENIZER_FILES):
        return False
    try:
        return len(CLIPTokenizer.from_pretrained(folder, local_files_only=True)) == words
    except (OSError, ValueError, KeyError):
        return False
