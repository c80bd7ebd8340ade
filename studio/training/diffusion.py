"""Learning to denoise latents: LoRA and full fine-tunes of a base model, and a small model from scratch."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn
from transformers import CLIPTokenizer

from studio.context import Context
from studio.errors import UsageError
from studio.events import MetricMeasured, PreviewSaved
from studio.files import sha256_of
from studio.models.load import DTYPES, DiffusionModel, load_model
from studio.models.quiet import quiet_libraries
from studio.models.registry import autoencoder_folder, resolve, weights_file
from studio.models.small import save_part, save_pipeline, small_model, train_tokenizer
from studio.settings import D4, LoraMethod, ScratchMethod, TrainSettings
from studio.training.batches import Draw, draws, noise_generator
from studio.training.cache import LatentCache, TextCache, sample
from studio.training.measuring import measure_kid
from studio.training.objective import alphas_cumprod, draw_timesteps, even_timesteps, noised
from studio.training.pictures import Pictures, open_pictures
from studio.training.previews import save_previews

_VALIDATION_BATCH = 16


@dataclass
class Diffusion:
    """A model in training with all that its loss needs; see `studio.training.train` for the loop."""

    context: Context
    settings: TrainSettings
    model: DiffusionModel
    parameters: dict[str, nn.Parameter]
    training: Pictures
    measured: Pictures
    vae_sha256: str
    text_sha256: str
    """Empty where the text encoder is trained too, so that nothing can be embedded ahead."""
    latents: dict[str, LatentCache] = field(default_factory=dict)
    texts: TextCache | None = None
    alphas: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.alphas = alphas_cumprod(self.model.scheduler)
        self.objective = self.model.objective
        self.precision = DTYPES[self.settings.optimiser.precision]

    def draws(self, step: int) -> list[Draw]:
        """The pictures of one optimiser step, all its forward passes together."""
        data, optimiser = self.settings.data, self.settings.optimiser
        chosen = draws(
            self.settings.seed,
            step,
            optimiser.batch * optimiser.accumulation,
            self.training.caption_counts,
            len(data.orientations),
            data.caption_dropout,
            data.class_captions,
        )
        return [Draw(one.picture, D4.index(data.orientations[one.orientation]), one.caption) for one in chosen]

    def prepare(self) -> bool:
        """Encode the pictures and captions that the run will draw; False if asked to stop meanwhile."""
        plan = [self.draws(step) for step in range(self.settings.optimiser.steps)]
        entries = [(draw.picture, draw.orientation) for some in plan for draw in some]
        whole = [(index, 0) for index in range(len(self.measured))]
        if not (self._fill_latents(self.training, entries) and self._fill_latents(self.measured, whole)):
            return False
        if not self.text_sha256:
            return True
        drawn = {self.training.caption(draw) for some in plan for draw in some}
        return self._fill_texts(sorted(drawn | set(self._measured_captions())))

    def loss(self, step: int, micro: int) -> Tensor:
        """Mean squared error of one forward pass."""
        size = self.settings.optimiser.batch
        chosen = self.draws(step)[micro * size : (micro + 1) * size]
        mean, log_variance = self._moments(self.training, [(draw.picture, draw.orientation) for draw in chosen])
        generator = noise_generator(self.settings.seed, step, micro)
        latents = sample(mean, log_variance, torch.randn(mean.shape, generator=generator))
        noise = torch.randn(mean.shape, generator=generator)
        times = draw_timesteps(self.objective, len(chosen), generator)
        return self._error(latents, noise, times, [self.training.caption(draw) for draw in chosen]).mean()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean squared error on the fixed pictures, with fixed noise and evenly spread timesteps."""
        count = len(self.measured)
        generator = noise_generator(self.settings.seed, 2**62)
        mean, _ = self._moments(self.measured, [(index, 0) for index in range(count)])
        noise = torch.randn(mean.shape, generator=generator)
        # Shuffled once, so that the order of the pictures, by class, does not decide their timesteps.
        times = even_timesteps(count)[torch.randperm(count, generator=generator)]
        captions = self._measured_captions()
        errors = []
        for start in range(0, count, _VALIDATION_BATCH):
            some = slice(start, start + _VALIDATION_BATCH)
            errors.append(self._error(mean[some], noise[some], times[some], captions[some]))
        return float(torch.cat(errors).double().mean())

    def preview(self, step: int) -> list[PreviewSaved]:
        return save_previews(self.model, self.settings, self.context.folder.path, step)

    def measure(self, step: int) -> MetricMeasured:
        return measure_kid(self.model, self.settings, self.measured, self.training, step)

    def write(self, folder: Path) -> None:
        """Write the model, as it is now, in the form that other tools load."""
        match self.settings.method:
            case LoraMethod() as method:
                learnt = get_peft_model_state_dict(self.model.unet)
                # The strength goes into the weights, since loaders take it for 1 where a file does not say.
                strength = method.alpha / method.rank
                learnt = {name: one * strength if ".lora_B." in name else one for name, one in learnt.items()}
                state = convert_state_dict_to_diffusers(learnt)
                StableDiffusionPipeline.save_lora_weights(folder / "lora", unet_lora_layers=state)
            case ScratchMethod():
                saving = self.settings.saving
                guidance, steps = saving.preview_guidance, saving.preview_steps
                save_pipeline(self.model, folder / "model", guidance, steps, torch.float16)
            case _:
                save_part(self.model.unet, folder / "unet")

    def state(self) -> dict[str, object]:
        return {"objective": self.objective}

    def _error(self, latents: Tensor, noise: Tensor, times: Tensor, captions: Sequence[str]) -> Tensor:
        device = self.model.device
        inputs, steps, target = noised(self.objective, latents, noise, times, self.alphas)
        with torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32):
            text = self._embed(captions)
            predicted = self.model.unet(inputs.to(device), steps.to(device), encoder_hidden_states=text).sample
        errors: Tensor = (predicted.float() - target.to(device)).pow(2).mean(dim=(1, 2, 3))
        return errors

    def _embed(self, captions: Sequence[str]) -> Tensor:
        if self.texts is None:
            return self.model.embed(list(captions))
        return self.texts.embeddings(captions).to(self.model.device)

    def _measured_captions(self) -> list[str]:
        return [picture.captions[0] if picture.captions else "" for picture in self.measured.pictures]

    def _moments(self, pictures: Pictures, entries: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Of the latents as the UNet sees them: scaled, and so is their deviation."""
        mean, log_variance = self.latents[pictures.sha256].moments(entries)
        factor = float(self.model.vae.config.scaling_factor)
        return mean * factor, log_variance + 2 * math.log(factor)

    def _fill_latents(self, pictures: Pictures, entries: Sequence[tuple[int, int]]) -> bool:
        size = pictures.settings.size_px
        cells = size // self.model.reduction
        shape = (2 * int(self.model.vae.config.latent_channels), cells, cells)
        name = f"{pictures.sha256[:24]}-{self.vae_sha256[:12]}-{size}"
        cache = LatentCache(self.context.workspace.cache / "latents" / name, len(pictures), shape)
        self.latents[pictures.sha256] = cache
        missing = cache.missing(entries)
        filling = cache.fill(missing, lambda some: self._encode(pictures, some))
        for _ in self.context.counted("Encoding pictures", sum(map(len, missing)), filling):
            if self.context.should_stop():
                return False
        return True

    @torch.no_grad()
    def _encode(self, pictures: Pictures, entries: Sequence[tuple[int, int]]) -> Tensor:
        vae = self.model.vae
        posterior = vae.encode(pictures.tensor(entries).to(vae.device, vae.dtype)).latent_dist
        return torch.cat([posterior.mean, posterior.logvar], dim=1)

    def _fill_texts(self, captions: list[str]) -> bool:
        self.texts = TextCache(self.context.workspace.cache / "text", self.text_sha256, captions)
        if self.texts.is_ready:
            return True
        filling = self.texts.fill(torch.no_grad()(self.model.embed))
        for _ in self.context.counted("Embedding captions", len(captions), filling):
            if self.context.should_stop():
                return False
        return True


def open_diffusion(context: Context, settings: TrainSettings) -> Diffusion:
    """Load what a LoRA or a full fine-tune begins from."""
    training, measured = open_pictures(context, settings)
    ref = resolve(context.workspace, settings.base)
    model = load_model(ref, context.device)
    if settings.objective != "base":
        model.objective = settings.objective
    torch.manual_seed(settings.seed)
    if isinstance(settings.method, LoraMethod):
        method = settings.method
        _check_targets(model, method)
        model.unet.add_adapter(
            LoraConfig(
                r=method.rank,
                lora_alpha=method.alpha,
                target_modules=list(method.targets),
                init_lora_weights="gaussian",
            )
        )
    else:
        model.unet.requires_grad_(True)
    model.unet.train()
    trained = {name: one for name, one in model.unet.named_parameters() if one.requires_grad}
    return Diffusion(context, settings, model, trained, training, measured, ref.vae_sha256(), ref.text_encoder_sha256())


def _check_targets(model: DiffusionModel, method: LoraMethod) -> None:
    names = [name for name, _ in model.unet.named_modules()]
    for target in method.targets:
        if not any(name.endswith(f".{target}") for name in names):
            raise UsageError(f"The UNet has no layers named {target}.", "There are to_q, to_k, to_v and to_out.0.")


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
    vae = AutoencoderKL.from_pretrained(parts / "vae", use_safetensors=True).requires_grad_(False).eval()
    tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer", local_files_only=True)
    objective = "flow" if settings.objective == "base" else settings.objective
    model = small_model(settings.method, vae, tokenizer, objective, settings.data.size_px, settings.seed)
    for part in (model.unet, model.vae, model.text_encoder):
        part.to(context.device)
    model.unet.train()
    model.text_encoder.train()
    trained = {f"unet.{name}": one for name, one in model.unet.named_parameters()}
    trained |= {f"text_encoder.{name}": one for name, one in model.text_encoder.named_parameters()}
    return Diffusion(
        context, settings, model, trained, training, measured, sha256_of(weights_file(parts / "vae")), text_sha256=""
    )
