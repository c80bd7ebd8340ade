"""Weights of networks from local files: safetensors only, told by content, never run."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from studio.errors import UsageError


def read_weights(file: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, by name.

    Raises:
        UsageError: there is no such file, or it is something else.
    """
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", "Name weights as a .safetensors file.")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UsageError(f"{file} is not a safetensors file ({error}).", "Convert it to .safetensors.") from None
