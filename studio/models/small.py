"""A small Stable Diffusion in stock classes: tokenizer, text encoder and UNet around an autoencoder."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from studio.models.attention import use_fast_attention
from studio.models.load import DiffusionModel
from studio.models.saving import scheduler_settings
from studio.settings import ScratchMethod

TOKENS = 77
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own pattern: contractions, letters, single digits, other signs.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(captions: Iterable[str], vocabulary: int, folder: Path) -> CLIPTokenizer:
    """Learn byte pairs from captions and write them as a CLIP tokenizer (vocab.json, merges.txt) into a folder."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(letters) - 2,
        initial_alphabet=sorted(letters),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    _write_clip_files(learnt["merges"], sorted(letters), folder)
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _write_clip_files(merges: list[list[str]], letters: list[str], folder: Path) -> None:
    """CLIP's order: letters, letters that end a word, what merges make, and the two special tokens last."""
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), _BEGIN, _END]
    vocabulary: dict[str, int] = {}
    for piece in pieces:
        vocabulary.setdefault(piece, len(vocabulary))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    special = {"bos_token": _BEGIN, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


def small_model(
    method: ScratchMethod, vae: AutoencoderKL, tokenizer: CLIPTokenizer, objective: str, size_px: int, seed: int
) -> DiffusionModel:
    """An untrained UNet and text encoder that fit an autoencoder and a tokenizer."""
    torch.manual_seed(seed)
    reduction = 2 ** (len(vae.config.block_out_channels) - 1)
    attention = len(method.channels) - 1
    unet = UNet2DConditionModel(
        sample_size=size_px // reduction,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        layers_per_block=1,
        block_out_channels=method.channels,
        down_block_types=("CrossAttnDownBlock2D",) * attention + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attention,
        cross_attention_dim=method.text_width,
        attention_head_dim=8,
    )
    use_fast_attention(unet)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=method.text_width,
            intermediate_size=4 * method.text_width,
            num_hidden_layers=method.text_layers,
            num_attention_heads=max(method.text_width // 32, 1),
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return DiffusionModel(unet, vae, text, tokenizer, scheduler_settings(objective), objective)
