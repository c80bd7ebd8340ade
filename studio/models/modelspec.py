"""What a safetensors file says of itself: the modelspec header that model browsers read, without torch."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio import __version__, files
from studio.models.weights import read_header

_CHUNK_BYTES = 1 << 20
# Prefixes of what is replaced when a file is described anew; PEFT's and others' own notes stay.
_OURS = ("modelspec.", "ss_", "sshs_")
_PARTS = ("lora", "unet", "vae", "text_encoder", "text_encoder_2")
UNKNOWN = "rs-studio-small"


def read_metadata(path: Path) -> dict[str, str]:
    """The notes in a safetensors file's header.

    Raises:
        UsageError: it is not a safetensors file.
    """
    header, _ = _header(path)
    return dict(header.get("__metadata__") or {})


def describe(path: Path, facts: Mapping[str, str]) -> None:
    """Write notes into a safetensors file's header, and the sum of its tensors; the tensors stay as they are.

    Args:
        facts: names with their prefix, such as modelspec.title. Empty ones are left out.
    """
    header, start = _header(path)
    kept = {name: text for name, text in (header.get("__metadata__") or {}).items() if not name.startswith(_OURS)}
    sum_of_tensors = {"modelspec.hash_sha256": f"0x{_tensors_sha256(path, start)}"}
    # safetensors of torch say so, and transformers refuses those that do not.
    header["__metadata__"] = {"format": "pt"} | kept | {name: text for name, text in facts.items() if text}
    header["__metadata__"] |= sum_of_tensors
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    text += b" " * (-len(text) % 8)  # as the format wants: tensors begin at a multiple of eight
    with files.replacing(path) as whole, path.open("rb") as source, whole.open("wb") as target:
        source.seek(start)
        target.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(source, target, _CHUNK_BYTES)


def modelspec(title: str, architecture: str, *, size_px: int = 0, objective: str = "", **more: str) -> dict[str, str]:
    """The fields of Stability AI's ModelSpec 1.0.1, by their full names.

    Args:
        architecture: as `architecture_of` names it; /lora behind it for an adapter, /vae and so on for a part.
        more: description, date, license, author, usage_hint, tags, merged_from …
    """
    size = {"resolution": f"{size_px}x{size_px}"} if size_px else {}
    facts = {
        "sai_model_spec": "1.0.1",
        "architecture": architecture,
        "implementation": "diffusers",
        "title": title,
        "author": more.pop("author", "") or f"made with rs-studio {__version__}",
        "prediction_type": objective,
        **size,
        **more,
    }
    return {f"modelspec.{name}": text for name, text in facts.items() if text}


def describe_parts(folder: Path, title: str, architecture: str, objective: str = "") -> None:
    """Describe the safetensors files of what a run learnt: what each is a part of, and which, by its folder's name."""
    for path in sorted(folder.rglob("*.safetensors")):
        if path.parent == folder / "vae":
            continue  # as it was before the run, and known by its bytes, which caches of latents go by
        part = f"{architecture}/{path.parent.name}" if path.parent.name in _PARTS else architecture
        describe(path, modelspec(title, part, objective=objective))


def architecture_of(unet: Mapping[str, Any], objective: str = "epsilon") -> str:
    """ModelSpec's name of what a UNet's settings are of; models of no known family get one of ours."""
    width = unet.get("cross_attention_dim")
    if unet.get("addition_embed_type") == "text_time":
        return "stable-diffusion-xl-v1-base" if width == 2048 else "rs-studio-xl"
    if width == 768:
        return "stable-diffusion-v1"
    if width == 1024:
        return "stable-diffusion-v2-768-v" if objective == "v" else "stable-diffusion-v2-512"
    return UNKNOWN


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors begin."""
    header = read_header(path)
    with path.open("rb") as file:
        return header, 8 + int.from_bytes(file.read(8), "little")


def _tensors_sha256(path: Path, start: int) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()
