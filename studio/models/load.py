"""Open a latent diffusion model from its folders: safetensors only, no remote code, no network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from studio.errors import UsageError
from studio.memory import AtOnce
from studio.models.attention import use_fast_attention
from studio.models.lora import lay_over
from studio.models.quiet import quiet_libraries
from studio.models.registry import ModelRef, Normalisation
from studio.models.weights import variant_of

_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "flow_prediction": "flow"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DECODED_AT_ONCE = 8
PREDICTION_TYPES = {objective: prediction for prediction, objective in _PREDICTIONS.items()}


@dataclass(frozen=True)
class Conditioning:
    """What prompts become for the UNet."""

    states: Tensor
    """(n, tokens, width): what cross-attention looks at."""
    pooled: Tensor | None = None
    """(n, width): one vector a prompt, of models with two text encoders."""

    def __getitem__(self, rows: slice) -> "Conditioning":
        return Conditioning(self.states[rows], None if self.pooled is None else self.pooled[rows])

    def to(self, *args: Any) -> "Conditioning":
        return Conditioning(self.states.to(*args), None if self.pooled is None else self.pooled.to(*args))


def joined(parts: Sequence[Conditioning]) -> Conditioning:
    """One after the other."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditioning(torch.cat([part.states for part in parts]), torch.cat(pooled) if pooled else None)


@dataclass
class DiffusionModel:
    """The parts of a model of Stable Diffusion 1, 2 or XL, on one device."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: dict[str, Any]
    objective: str
    text_encoder_2: CLIPTextModelWithProjection | None = None
    """The second text encoder, of Stable Diffusion XL."""
    tokenizer_2: CLIPTokenizer | None = None
    empty_is_zero: bool = False
    """Whether an empty text becomes zeros, as Stable Diffusion XL was trained, instead of what the encoders say."""
    normalisation: Normalisation | None = None
    """By which pictures were normalised before they were encoded, where a run did that; `decode` takes it back."""

    @cached_property
    def _decoded_at_once(self) -> AtOnce:
        # A picture's activations fit into a CPU's cache where a batch's do not.
        return AtOnce(1 if self.device.type == "cpu" else _DECODED_AT_ONCE)

    @property
    def parts(self) -> dict[str, Any]:
        """The networks by the names of their folders."""
        parts = {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}
        return parts if self.text_encoder_2 is None else parts | {"text_encoder_2": self.text_encoder_2}

    @property
    def text_encoders(self) -> list[Any]:
        return [self.text_encoder] if self.text_encoder_2 is None else [self.text_encoder, self.text_encoder_2]

    @property
    def tokenizers(self) -> dict[str, CLIPTokenizer]:
        """The tokenizers by the names of their folders."""
        first = {"tokenizer": self.tokenizer}
        return first if self.tokenizer_2 is None else first | {"tokenizer_2": self.tokenizer_2}

    @property
    def device(self) -> torch.device:
        device: torch.device = self.unet.device
        return device

    @property
    def reduction(self) -> int:
        """Pixels of the picture for one cell of the latent, along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def native_size_px(self) -> int:
        return int(self.unet.config.sample_size) * self.reduction

    def embed(self, texts: list[str]) -> Conditioning:
        """What texts become, 77 tokens each.

        One text encoder gives its last hidden state. Of two, the last but one of each are joined (n, tokens, both
        widths), and the second gives the pooled vector, as StableDiffusionXLPipeline.encode_prompt does.
        """
        pairs = list(zip(self.tokenizers.values(), self.text_encoders, strict=True))
        if len(pairs) == 1:
            return Conditioning(self.text_encoder(self._tokens(texts, *pairs[0]))[0])
        said = [encoder(self._tokens(texts, one, encoder), output_hidden_states=True) for one, encoder in pairs]
        states, pooled = torch.cat([one.hidden_states[-2] for one in said], dim=-1), said[1].text_embeds
        if self.empty_is_zero:
            kept = torch.tensor([bool(text) for text in texts], dtype=states.dtype, device=states.device)
            states, pooled = states * kept[:, None, None], pooled * kept[:, None]
        return Conditioning(states, pooled)

    def _tokens(self, texts: list[str], tokenizer: CLIPTokenizer, encoder: CLIPTextModel) -> Tensor:
        places = int(encoder.config.max_position_embeddings)
        tokens = tokenizer(
            texts,
            padding="max_length",
            # A tokenizer without a limit of its own says 10^30.
            max_length=min(tokenizer.model_max_length, places),
            truncation=True,
            return_tensors="pt",
        )
        ids: Tensor = tokens.input_ids.to(self.device)
        return ids

    def predict(
        self, latents: Tensor, times: Tensor | float, text: Conditioning, frames: Tensor | None = None
    ) -> Tensor:
        """What the UNet says about noisy latents (n, channels, height, width).

        Args:
            times: timesteps (n,) or one for all, on the scale of 0 to 1000.
            frames: (n, 6) original height and width, top and left of the crop, height and width wanted, in pixels,
                for models that are told them (Podell et al. 2023, sec. 2.2); the latents' own size where not given.
        """
        told = None
        if text.pooled is not None:
            told = {"text_embeds": text.pooled, "time_ids": self._frames(latents) if frames is None else frames}
        prediction: Tensor = self.unet(latents, times, encoder_hidden_states=text.states, added_cond_kwargs=told).sample
        return prediction

    def _frames(self, latents: Tensor) -> Tensor:
        height, width = (side * self.reduction for side in latents.shape[-2:])
        frame = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=latents.device)
        return frame.expand(len(latents), 6)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Leave nothing out at random while a model in training is looked at."""
        learning = [part for part in (self.unet, *self.text_encoders) if part.training]
        for part in learning:
            part.eval()
        try:
            yield
        finally:
            for part in learning:
                part.train()

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (n, 3, height, width) uint8 of scaled latents."""
        latents = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        pictures = torch.cat(self._decoded_at_once.parts(latents, lambda some: self.vae.decode(some).sample.float()))
        if self.normalisation is None:
            shares = pictures / 2 + 0.5
        else:
            mean, deviation = (pictures.new_tensor(one).view(3, 1, 1) for one in self.normalisation)
            shares = pictures * deviation + mean
        levels: Tensor = shares.clamp(0, 1) * 255
        return levels.round().to(torch.uint8).cpu()


def load_model(ref: ModelRef, device: str, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """Every part of a model, frozen, in evaluation mode; what LoRA runs and files hold is added to the weights.

    Args:
        dtype: the number format of the weights, but for the autoencoder's, which stay float32: it works once for a
            tile, bfloat16 has no more digits than a pixel, and that of Stable Diffusion XL overflows in float16.

    Raises:
        UsageError: the model predicts something that is not known here, or a LoRA does not fit it.
    """
    quiet_libraries()
    scheduler = read_json(ref.folder / "scheduler" / "scheduler_config.json")
    objective = ref.objective or _PREDICTIONS.get(scheduler.get("prediction_type", "epsilon"))
    if objective is None:
        raise UsageError(f"{ref.name} predicts {scheduler['prediction_type']}; epsilon, v and flow can be used.")
    # Sums of float32 lose less, and what is opened in half precision need not fit into memory in float32 first.
    opened_in = torch.float32 if ref.loras or ref.extra else dtype
    model = DiffusionModel(
        _opened(UNet2DConditionModel, ref.unet_folder, opened_in),
        _opened(AutoencoderKL, ref.folder / "vae", torch.float32),
        _opened(CLIPTextModel, ref.folder / "text_encoder", opened_in),
        CLIPTokenizer.from_pretrained(ref.folder / "tokenizer", local_files_only=True),
        scheduler,
        objective,
        normalisation=ref.normalisation,
    )
    if len(ref.text_encoders) > 1:
        model.text_encoder_2 = _opened(CLIPTextModelWithProjection, ref.text_encoders[1], opened_in)
        model.tokenizer_2 = CLIPTokenizer.from_pretrained(ref.folder / "tokenizer_2", local_files_only=True)
        index = read_json(ref.folder / "model_index.json")
        model.empty_is_zero = bool(index.get("force_zeros_for_empty_prompt", True))
    for path in ref.loras:
        lay_over(model.parts, path)
    for extra in ref.extra:
        lay_over(model.parts, extra.path, extra.strength)
    for name, part in model.parts.items():
        part.requires_grad_(False).eval().to(device=device, dtype=torch.float32 if name == "vae" else dtype)
    use_fast_attention(model.unet)
    return model


_SAFE: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}


def _opened(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    if issubclass(kind, ModelMixin):
        return kind.from_pretrained(
            folder, variant=variant_of(folder), torch_dtype=dtype, low_cpu_mem_usage=False, **_SAFE
        )
    return kind.from_pretrained(folder, variant=variant_of(folder), dtype=dtype, **_SAFE)


def read_json(path: Path) -> dict[str, Any]:
    import json

    values: dict[str, Any] = json.loads(path.read_text())
    return values
