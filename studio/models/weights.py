"""The safetensors files of a model's components: found under the names that the libraries load, and looked into."""

import json
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import UsageError

# The names that diffusers and transformers load, so that what is checked and summed is what is opened.
STOCK = ("diffusion_pytorch_model.safetensors", "model.safetensors")
HALF = tuple(name.replace(".safetensors", ".fp16.safetensors") for name in STOCK)
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_MAX_HEADER_BYTES = 100_000_000


def weights_files(component: Path) -> list[Path]:
    """The safetensors files of one component, those that the libraries load: one, or the shards of an index.

    Raises:
        UsageError: there are none; where there are pickles instead, it says how to convert them.
    """
    found = {path.name: path for path in component.iterdir()} if component.is_dir() else {}
    # An index and an adapter each name further files, of any kind and anywhere, and the libraries follow them.
    leading = sorted(name for name in found if name.endswith(".json") and ".index." in name)
    stock = next((found[name] for name in (*STOCK, *HALF) if name in found), None)
    if "adapter_config.json" in found or (leading and stock is not None) or len(leading) > 1:
        names = ", ".join([*leading, *(["adapter_config.json"] if "adapter_config.json" in found else [])])
        raise UsageError(f"{component} holds several things to load ({names}).", "Leave one set of weights in it.")
    if leading:
        return _shards(found[leading[0]])
    if stock is not None:
        return [stock]
    others = sorted(name for name in found if name.endswith(".safetensors"))
    if others:
        raise UsageError(f"{component} has weights under another name, {others[0]}.", f"Call them {STOCK[0]}.")
    pickles = sorted(name for name in found if name.endswith(PICKLES))
    if pickles:
        raise UsageError(
            f"{component} holds only pickled weights ({pickles[0]}), which can run code.",
            "Convert them to safetensors on a machine you can lose, and point here again.",
        )
    raise UsageError(f"{component} holds no weights.", "A diffusers folder has <component>/*.safetensors.")


def weights_file(component: Path) -> Path:
    """The one file of a component that is never so large that it comes in shards."""
    found = weights_files(component)
    if len(found) > 1:
        raise UsageError(f"{component} is in {len(found)} parts.", "Save it as one safetensors file.")
    return found[0]


def weights_sums(component: Path) -> list[str]:
    """The sha256 of each file of a component."""
    return [files.sha256_of(path) for path in weights_files(component)]


def variant_of(component: Path) -> str | None:
    """What from_pretrained has to be told of a component: fp16 where only such weights are there."""
    return "fp16" if weights_files(component)[0].name in HALF else None


def check_safetensors(path: Path) -> None:
    """Look at what a file is, not at what it is called.

    Raises:
        UsageError: it is not a safetensors file.
    """
    read_header(path)


def read_header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors: name to dtype, shape and place; __metadata__ too.

    Raises:
        UsageError: it is not a safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 2 <= length <= _MAX_HEADER_BYTES and length + 8 <= path.stat().st_size:
            try:
                header = json.loads(file.read(length))
            except (ValueError, RecursionError):
                header = None
            if isinstance(header, dict):
                return header
    raise UsageError(
        f"{path} is not a safetensors file, whatever its name says.",
        "Only safetensors are opened, since pickles can run code.",
    )


def _shards(index: Path) -> list[Path]:
    """The files that an index names, all beside it."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{index} cannot be read.", "Download or save the model again.") from None
    if index.name not in {f"{name}.index.json" for name in STOCK} or not names:
        raise UsageError(f"{index} is no index of safetensors.", "Save the model again, with safetensors.")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UsageError(f"{index} names {name!r}, which is no safetensors file beside it.")
        if not (index.parent / name).is_file():
            raise UsageError(f"{index} names {name}, which is not there.", "Download or save the model again.")
    return [index.parent / name for name in names]
