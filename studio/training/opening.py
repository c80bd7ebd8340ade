"""Load or make what a diffusion run begins from: a base model to fine-tune, or a small one that knows nothing."""

import shutil
from dataclasses import replace

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTokenizer

from studio.context import Context
from studio.datasets.statistics import colours
from studio.errors import UsageError
from studio.events import Warned
from studio.files import sha256_of
from studio.models.load import DTYPES, DiffusionModel, load_model
from studio.models.quiet import quiet_libraries
from studio.models.registry import autoencoder_folder, resolve
from studio.models.small import small_model, train_tokenizer
from studio.models.weights import variant_of, weights_file
from studio.settings import LoraMethod, ScratchMethod, TrainSettings
from studio.training.adapters import add_lora, freeze_in, text_encoders
from studio.training.diffusion import Diffusion
from studio.training.encoding import Encodings
from studio.training.pictures import Pictures, in_buckets, open_pictures


def open_diffusion(context: Context, settings: TrainSettings) -> Diffusion:
    """What a LoRA or a full fine-tune begins from.

    Raises:
        UsageError: the base, the data or the settings do not go together.
    """
    training, measured = open_pictures(context, settings)
    ref = resolve(context.workspace, settings.base)
    if not isinstance(settings.method, LoraMethod) and ref.text_loras:
        raise UsageError(
            f"{settings.base} changed its text encoder by a LoRA, which a full fine-tune does not carry on.",
            "Export it as a whole model first, and begin from that folder.",
        )
    model = load_model(ref, context.device)
    if settings.objective != "base":
        model.objective = settings.objective
    torch.manual_seed(settings.seed)
    method = settings.method
    if isinstance(method, LoraMethod):
        trained = add_lora(model, method)
        # Half the memory, and no copies in the lower format at each step; what is learnt stays in float32.
        freeze_in(model.unet, DTYPES[settings.optimiser.precision])
    else:
        model.unet.requires_grad_(True)
        trained = dict(model.unet.named_parameters())
    learns_text = isinstance(method, LoraMethod) and method.text_encoder
    for part in text_encoders(model).values():
        if learns_text:
            part.train()
        else:
            part.to(frozen_text_dtype(settings, context.device))
    return _diffusion(
        context,
        settings,
        model,
        trained,
        (training, measured),
        ref.vae_sha256(),
        "" if learns_text else ref.text_encoder_sha256(),
    )


def frozen_text_dtype(settings: TrainSettings, device: str) -> torch.dtype:
    """On a GPU that of the run's arithmetic, as in diffusers' scripts: the two of SDXL take 3.3 GB in float32."""
    return DTYPES[settings.optimiser.precision] if device.startswith("cuda") else torch.float32


def open_scratch(context: Context, settings: TrainSettings) -> Diffusion:
    """Make a small model around an autoencoder; its tokenizer and autoencoder are kept with the run, to go on with."""
    assert isinstance(settings.method, ScratchMethod)
    quiet_libraries()
    training, measured = open_pictures(context, settings)
    parts = context.folder.path / "parts"
    if not (parts / "vae").is_dir():
        source = autoencoder_folder(context.workspace, settings.base)
        shutil.copytree(source, parts / ".tmp-vae", dirs_exist_ok=True)
        (parts / ".tmp-vae").rename(parts / "vae")
    if not (parts / "tokenizer").is_dir():
        captions = [caption for picture in training.pictures for caption in picture.captions]
        train_tokenizer(captions, settings.method.vocabulary, parts / ".tmp-tokenizer")
        (parts / ".tmp-tokenizer").rename(parts / "tokenizer")
    vae = AutoencoderKL.from_pretrained(parts / "vae", use_safetensors=True, variant=variant_of(parts / "vae"))
    vae.requires_grad_(False).eval().float()
    tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer", local_files_only=True)
    objective = "flow" if settings.objective == "base" else settings.objective
    model = small_model(settings.method, vae, tokenizer, objective, settings.data.size_px, settings.seed)
    for part in (model.unet, model.vae, model.text_encoder):
        part.to(context.device)
    model.text_encoder.train()
    trained = {f"unet.{name}": one for name, one in model.unet.named_parameters()}
    trained |= {f"text_encoder.{name}": one for name, one in model.text_encoder.named_parameters()}
    vae_sha256 = sha256_of(weights_file(parts / "vae"))
    return _diffusion(context, settings, model, trained, (training, measured), vae_sha256, text_sha256="")


def _diffusion(
    context: Context,
    settings: TrainSettings,
    model: DiffusionModel,
    trained: dict[str, nn.Parameter],
    both: tuple[Pictures, Pictures],
    vae_sha256: str,
    text_sha256: str,
) -> Diffusion:
    """Ready to train; `both` are the pictures trained on and those measured."""
    if settings.optimiser.min_snr_gamma and model.objective == "flow":
        raise UsageError(
            "min_snr_gamma weighs epsilon and v, and this model predicts a flow.", "Leave it out: --set min_snr_gamma=0"
        )
    model.unet.train()
    if settings.optimiser.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
    if context.device.startswith("cuda"):
        # Convolutions on tensor cores want channels last; on CPUs the copies cost more than they save.
        model.unet.to(memory_format=torch.channels_last)
    training, measured = (_as_told(settings, model, one) for one in both)
    model.normalisation = None  # what the base was normalised by, if it was, is no longer so
    if settings.data.normalisation == "dataset":
        normalisation = colours(training.dataset, training.pictures)
        training, measured = (replace(one, normalisation=normalisation) for one in (training, measured))
        model.normalisation = normalisation
        context.emit(
            Warned(
                "Pictures are normalised by the data set's mean and deviation, which the autoencoder does not expect.",
                "Tiles of this run are brought back by the inverse; --set normalisation=none is the usual way.",
            )
        )
    encodings = Encodings(context, model, vae_sha256, text_sha256)
    return Diffusion(context, settings, model, trained, training, measured, encodings)


def _as_told(settings: TrainSettings, model: DiffusionModel, pictures: Pictures) -> Pictures:
    """In buckets, where wanted, whose sides the UNet can halve as often as it does."""
    if not settings.data.buckets:
        return pictures
    halvings = len(model.unet.config.block_out_channels) - 1
    return in_buckets(pictures, model.reduction * 2**halvings)
