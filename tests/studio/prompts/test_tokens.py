import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import UsageError
from studio.prompts import tokens
from tests.hostile import PAYLOADS

WORDS = (
    *("ice", "floes", "drifting", "in", "the", "Arctic", "Ocean's", "388", "fjords,", "wine-producing", "10", "m!"),
    *("café", "\uff21\uff22", "İstanbul", "城市", "<|endoftext|>", "<|startoftext|>x"),
)


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "sd15_config" / "tokenizer"


@pytest.fixture(scope="module")
def clip(folder: Path) -> Any:
    """The tokenizer that the model itself uses."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def texts() -> list[str]:
    rng = random.Random(0)
    written = [" ".join(rng.choices(WORDS, k=rng.randint(0, 60))) for _ in range(300)]
    return [*written, *(text for text in PAYLOADS if text.isprintable() or "\x1b" in text)]


def test_every_count_is_that_of_the_models_own_tokenizer(folder: Path, clip: Any) -> None:
    for text in texts():
        assert tokens.count(text, folder).used == len(clip(text).input_ids), text


def test_the_text_is_cut_where_the_model_ceases_to_see_it(folder: Path, clip: Any) -> None:
    cut = 0
    for text in texts():
        counted = tokens.count(text, folder)
        start, end = clip(text, truncation=True, max_length=77, return_offsets_mapping=True)["offset_mapping"][-2]
        assert counted.kept_text + counted.cut_text == text
        if not counted.fits:
            cut += 1
            # The last token may be the first bytes of a character, which then counts as cut.
            assert len(counted.kept_text) == end or len(counted.kept_text) == start == end - 1, text
    assert cut > 30


def test_a_tokenizer_saved_by_transformers_counts_the_same(folder: Path, clip: Any, tmp_path: Path) -> None:
    clip.save_pretrained(tmp_path / "tokenizer")
    for text in texts()[:100]:
        assert tokens.count(text, tmp_path) == tokens.count(text, folder)


def test_a_short_prompt_is_kept_whole(folder: Path) -> None:
    assert tokens.count("a river", folder) == tokens.TokenCount(4, 77, "a river", "")
    assert tokens.count("", folder).used == 2


def test_exactly_77_tokens_fit(folder: Path) -> None:
    fits, over = tokens.count("river " * 75, folder), tokens.count("river " * 76, folder)
    assert (fits.used, fits.fits, fits.cut_text) == (77, True, "")
    assert (over.used, over.fits, over.cut_text.strip()) == (78, False, "river")


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet=st.characters(), max_size=300))
def test_any_text_can_be_counted(folder: Path, text: str) -> None:
    counted = tokens.count(text, folder)
    assert counted.used >= 2
    assert counted.kept_text + counted.cut_text == text
    assert counted.fits == (counted.cut_text == "")


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UsageError, match="no tokenizer"):
        tokens.count("a river", tmp_path)


def test_counting_loads_no_transformers(folder: Path) -> None:
    code = (
        "import sys, pathlib; from studio.prompts.tokens import count;"
        "count('a river', pathlib.Path(sys.argv[1])); print({'torch', 'transformers'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
