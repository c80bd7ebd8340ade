"""Folders in diffusers layout: whether all is there that will be opened, and nothing else would be."""

import json
from pathlib import Path
from typing import Any

from studio.errors import StudioError, UsageError
from studio.models import families
from studio.models.weights import check_safetensors, weights_files


def check_folder(name: str, folder: Path) -> None:
    """See that a folder holds a whole model of a kind that can be used, in safetensors.

    Raises:
        UsageError: it does not.
    """
    if not (folder / "model_index.json").is_file():
        raise StudioError(f"{name} is not there: {folder} holds no model.", "Install rs-studio again.")
    index = read_settings(folder / "model_index.json")
    kind = str(index.get("_class_name"))
    if not kind.startswith(families.PIPELINES):
        raise UsageError(f"{name} is a {kind}; models of Stable Diffusion 1, 2 and XL can be used.")
    needed = families.needed_files("text_encoder_2" in index or "XL" in kind)
    for one in needed:
        if one.endswith("/config.json") and (folder / one).is_file():
            for path in weights_files((folder / one).parent):
                check_safetensors(path)
    missing = [one for one in needed if not (folder / one).is_file()]
    missing += [one for one in families.tokenizers(needed) if not _has_tokenizer(folder / one)]
    if missing:
        raise UsageError(f"{name} is incomplete: it has no {', '.join(missing)}.", "Download or save it again.")
    families.check_shapes(name, read_settings(folder / "unet/config.json"), read_settings(folder / "vae/config.json"))


def read_settings(path: Path) -> dict[str, Any]:
    """The values of a JSON file.

    Raises:
        UsageError: it cannot be read, or holds no settings.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}).") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no settings.")
    return values


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file()
