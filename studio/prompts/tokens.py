"""How many of a text encoder's tokens a prompt takes, and which words at its end would be cut."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio.errors import UsageError

LIMIT = 77
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a prompt, those at its start and end included; `kept_text + cut_text` is the prompt."""

    used: int
    limit: int
    kept_text: str
    cut_text: str

    @property
    def fits(self) -> bool:
        return self.used <= self.limit


def count(text: str, tokenizer_folder: Path) -> TokenCount:
    """Tokens of a prompt as a model's own tokenizer counts them.

    Args:
        tokenizer_folder: a model in diffusers layout, or its tokenizer folder.

    Raises:
        UsageError: there is no tokenizer.
    """
    tokenizer, limit = _opened(tokenizer_folder)
    encoding = tokenizer.encode(_HALF_CHARACTER.sub("\ufffd", text))  # as long as before, so that places stay right
    used = len(encoding.ids)
    if used <= limit:
        return TokenCount(used, limit, text, "")
    # The last place goes to the end token, so the text ends with the token before. Where that one is the first bytes
    # of a character, the next begins before it ends, and the whole character is cut.
    cut_at = min(encoding.offsets[limit - 2][1], encoding.offsets[limit - 1][0])
    return TokenCount(used, limit, text[:cut_at], text[cut_at:])


@lru_cache(maxsize=8)
def _opened(folder: Path) -> tuple[Any, int]:
    """A tokenizer (of a library without types) and the tokens that its model takes."""
    from tokenizers import Tokenizer  # not at the top, as it takes a moment and most commands count nothing

    folder = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
        else:
            tokenizer = _of_byte_pairs(folder)
        return tokenizer, _limit(folder)
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(
            f"There is no tokenizer in {folder} ({error}).", "Name a model folder in diffusers layout."
        ) from None


def _of_byte_pairs(folder: Path) -> Any:
    """CLIP's tokenizer from vocab.json and merges.txt, put together as transformers does it."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    start, end = "<|startoftext|>", "<|endoftext|>"
    byte_pairs = models.BPE.from_file(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
        unk_token=end,
    )
    tokenizer = Tokenizer(byte_pairs)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=True, special=True) for text in (start, end)])
    start_id, end_id = tokenizer.token_to_id(start), tokenizer.token_to_id(end)
    assert start_id is not None
    assert end_id is not None
    tokenizer.post_processor = processors.RobertaProcessing((end, end_id), (start, start_id), trim_offsets=False)
    return tokenizer


def _limit(folder: Path) -> int:
    path = folder / "tokenizer_config.json"
    limit = json.loads(path.read_text("utf-8")).get("model_max_length", LIMIT) if path.is_file() else LIMIT
    return int(limit) if 3 <= limit < 100_000 else LIMIT  # "no limit" is written as 10^30
