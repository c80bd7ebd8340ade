import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from studio.models.load import load_model
from studio.models.registry import ModelRef
from studio.models.saving import save_pipeline
from studio.models.small import TOKENS, train_tokenizer
from studio.prompts.tokens import count
from tests.studio.small_models import captions

TEXTS = ("one river near a town", "Some  FOREST's field, 42!", "café ✈ 河", "", "road " * 90)


def test_a_learnt_tokenizer_is_clips_own_kind(tmp_path: Path) -> None:
    ours = train_tokenizer(captions(), 600, tmp_path / "tokenizer")
    stock = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    assert stock.model_max_length == TOKENS
    for text in TEXTS:
        ids = stock(text, padding="max_length", truncation=True, max_length=TOKENS)["input_ids"]
        assert ids == ours(text, padding="max_length", truncation=True, max_length=TOKENS)["input_ids"]
        assert len(ids) == TOKENS
        assert ids[0] == stock.bos_token_id
        assert stock.eos_token_id in ids
        assert count(text, tmp_path / "tokenizer").used == len(stock(text)["input_ids"])
    assert stock.tokenize("one river") == ["one</w>", "river</w>"]
    # The special tokens come last, as CLIP's text model finds the end by the largest number.
    assert (stock.bos_token_id, stock.eos_token_id) == (len(stock) - 2, len(stock) - 1)


def test_a_letter_that_no_caption_had_still_has_a_number(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["aaa bbb"], 600, tmp_path / "tokenizer")
    assert tokenizer.decode(tokenizer("zürich")["input_ids"], skip_special_tokens=True).strip() == "zürich"


def test_writing_a_model_leaves_it_as_it_was(tiny_flow: Path, tmp_path: Path) -> None:
    """Checkpoints are in half precision; training goes on in full."""
    model = load_model(ModelRef("tiny", tiny_flow), "cpu")
    parts = (model.unet, model.vae, model.text_encoder)
    before = [{name: one.clone() for name, one in part.state_dict().items()} for part in parts]
    (tmp_path / "saved").mkdir()
    save_pipeline(model, tmp_path / "saved", 2.5, 4, torch.float16)
    for part, kept in zip(parts, before, strict=True):
        assert all(torch.equal(one, kept[name]) for name, one in part.state_dict().items())
    again = load_model(ModelRef("saved", tmp_path / "saved"), "cpu")
    assert again.unet.dtype == torch.float32
    assert torch.equal(again.unet.conv_in.weight, model.unet.conv_in.weight.half().float())
    assert again.tokenizer("one river")["input_ids"] == model.tokenizer("one river")["input_ids"]


def test_a_written_model_does_not_say_where_it_came_from(tiny_flow: Path, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    save_pipeline(load_model(ModelRef("tiny", tiny_flow), "cpu"), tmp_path / "saved", 2.5, 4, torch.float16)
    for path in (tmp_path / "saved").rglob("*.json"):
        assert str(tiny_flow.parent) not in path.read_text(), path


def test_loading_and_writing_are_silent(tiny_flow: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither notices nor bars of the libraries, which would tear the screen."""
    model = load_model(ModelRef("tiny", tiny_flow), "cpu")
    (tmp_path / "saved").mkdir()
    save_pipeline(model, tmp_path / "saved", 2.5, 4, torch.float16)
    assert capfd.readouterr() == ("", "")


class TestStarter:
    def test_it_takes_at_most_30_megabytes(self, starter: Path) -> None:
        assert sum(path.stat().st_size for path in starter.rglob("*") if path.is_file()) <= 30_000_000

    def test_the_stock_pipeline_loads_it(self, starter: Path) -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(starter, local_files_only=True)
        assert pipeline.scheduler.config.prediction_type == "flow_prediction"
        assert pipeline.vae_scale_factor == 4
        assert pipeline.tokenizer.model_max_length == TOKENS

    def test_it_makes_64_px_tiles(self, starter: Path) -> None:
        model = load_model(ModelRef("starter", starter), "cpu")
        assert (model.native_size_px, model.objective) == (64, "flow")
        assert {part.dtype for part in (model.unet, model.vae, model.text_encoder)} == {torch.float32}

    def test_it_names_no_path_of_a_machine(self, starter: Path) -> None:
        for path in starter.rglob("*config.json"):
            assert "_name_or_path" not in json.loads(path.read_text()), path

    def test_its_tokenizer_counts_as_the_prompt_screen_does(self, starter: Path) -> None:
        stock = CLIPTokenizer.from_pretrained(starter / "tokenizer", local_files_only=True)
        for text in TEXTS:
            assert count(text, starter).used == len(stock(text)["input_ids"])


def test_clips_own_tokenizer_is_loaded_as_it_is(narrow: Path) -> None:
    model = load_model(ModelRef("narrow", narrow), "cpu")
    ours = model.tokenizer(list(TEXTS), padding="max_length", truncation=True, max_length=TOKENS)["input_ids"]
    stock = CLIPTokenizer.from_pretrained(narrow / "tokenizer", local_files_only=True)
    assert ours == stock(list(TEXTS), padding="max_length", truncation=True, max_length=TOKENS)["input_ids"]
    assert ours[0][:6] == [49406, 637, 2473, 2252, 320, 1605]  # "one river near a town", from CLIP's own vocabulary
    assert model.embed(list(TEXTS)).states.shape == (len(TEXTS), TOKENS, 32)
    assert isinstance(model.tokenizer.backend_tokenizer, Tokenizer)
