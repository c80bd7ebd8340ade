"""Which files of a repository of the hub make up a model that can be used."""

import re
from collections.abc import Set

from studio.errors import UsageError
from studio.models import families
from studio.models.weights import HALF, PICKLES, STOCK

_TOKENIZER = (
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip


def wanted_files(hub_id: str, names: Set[str]) -> list[str]:
    """The settings, tokenizers and safetensors to download; half precision where there is no other.

    Raises:
        UsageError: the repository holds no model in diffusers layout, or holds it as pickles only.
    """
    if "model_index.json" not in names:
        single = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
        hint = f"Download {single[0]} and name the file." if single else "Name a repository that has model_index.json."
        raise UsageError(f"{hub_id} holds no model in diffusers layout.", hint)
    needed = families.needed_files("text_encoder_2/config.json" in names)
    missing = [name for name in needed if name not in names]
    if missing:
        raise UsageError(f"{hub_id} is no Stable Diffusion 1, 2 or XL: it has no {', '.join(missing)}.")
    wanted = ["model_index.json", *needed]
    for folder in families.tokenizers(needed):
        wanted += [f"{folder}/{name}" for name in _TOKENIZER if f"{folder}/{name}" in names]
    # Defaults of the studio's own models, and the card, which says the licence.
    wanted += [name for name in ("studio.json", "README.md") if name in names]
    for name in needed:
        if name.endswith("/config.json"):
            wanted += _weights(hub_id, name.partition("/")[0], names)
    return wanted


def _weights(hub_id: str, component: str, names: Set[str]) -> list[str]:
    for stock in STOCK:
        if f"{component}/{stock}" in names:
            return [f"{component}/{stock}"]
        if f"{component}/{stock}.index.json" in names:
            shard = re.compile(rf"{component}/{stock.removesuffix('.safetensors')}-\d{{5}}-of-\d{{5}}\.safetensors")
            return [f"{component}/{stock}.index.json", *sorted(name for name in names if shard.fullmatch(name))]
    for half in HALF:
        if f"{component}/{half}" in names:
            return [f"{component}/{half}"]
    if any(name.startswith(f"{component}/") and name.endswith(PICKLES) for name in names):
        raise UsageError(
            f"{hub_id} has its {component} only as a pickle, which can run code.",
            "Ask its owner for safetensors, or convert it on a machine that you can lose.",
        )
    raise UsageError(f"{hub_id} has no weights of its {component}.")
