"""Open a latent diffusion model from its folders: safetensors only, no remote code, no network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from studio.errors import UsageError
from studio.models.quiet import quiet_libraries
from studio.models.registry import ModelRef

_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "flow_prediction": "flow"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PREDICTION_TYPES = {objective: prediction for prediction, objective in _PREDICTIONS.items()}


@dataclass
class DiffusionModel:
    """The parts of a Stable Diffusion 1.x-shaped model, on one device."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: dict[str, Any]
    objective: str

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

    def embed(self, texts: list[str]) -> Tensor:
        """Text embeddings (n, 77, width) as Stable Diffusion 1.x makes them: the last hidden state."""
        places = int(self.text_encoder.config.max_position_embeddings)
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            # A tokenizer without a limit of its own says 10^30.
            max_length=min(self.tokenizer.model_max_length, places),
            truncation=True,
            return_tensors="pt",
        )
        embeddings: Tensor = self.text_encoder(tokens.input_ids.to(self.device))[0]
        return embeddings

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (n, 3, height, width) uint8 of scaled latents."""
        pictures = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
        levels: Tensor = (pictures.float() / 2 + 0.5).clamp(0, 1) * 255
        return levels.round().to(torch.uint8).cpu()


def load_model(ref: ModelRef, device: str, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    """Every part of a model, frozen, in evaluation mode; what LoRA runs learnt is added to the UNet.

    Raises:
        UsageError: the model predicts something that is not known here.
    """
    quiet_libraries()
    scheduler = read_json(ref.folder / "scheduler" / "scheduler_config.json")
    objective = ref.objective or _PREDICTIONS.get(scheduler.get("prediction_type", "epsilon"))
    if objective is None:
        raise UsageError(f"{ref.name} predicts {scheduler['prediction_type']}; epsilon, v and flow can be used.")
    unet = UNet2DConditionModel.from_pretrained(ref.unet_folder, **_SAFE)
    for lora in ref.loras:
        unet.load_lora_adapter(_lora_state(lora), prefix="unet")
        unet.fuse_lora()
        unet.unload_lora()
    model = DiffusionModel(
        unet,
        AutoencoderKL.from_pretrained(ref.folder / "vae", **_SAFE),
        CLIPTextModel.from_pretrained(ref.folder / "text_encoder", use_safetensors=True, local_files_only=True),
        CLIPTokenizer.from_pretrained(ref.folder / "tokenizer", local_files_only=True),
        scheduler,
        objective,
    )
    for part in (model.unet, model.vae, model.text_encoder):
        part.requires_grad_(False).eval().to(device=device, dtype=dtype)
    return model


_SAFE: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": False}


def read_json(path: Path) -> dict[str, Any]:
    import json

    values: dict[str, Any] = json.loads(path.read_text())
    return values


def _lora_state(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)
