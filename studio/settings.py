"""What each kind of job can be told: one declaration for files, the command line and forms."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from studio.config import Model

Objective = Literal["epsilon", "v", "flow"]
Precision = Literal["fp32", "bf16", "fp16"]
Log = Literal["csv", "tensorboard", "wandb"]
Sampler = Literal[
    "pndm", "ddim", "dpm++2m", "dpm++2m-karras", "dpm++2m-sde", "dpm++2m-sde-karras", "dpm++sde", "unipc", "euler",
    "euler-a", "heun", "lms", "lcm",
]  # fmt: skip
# LCM was taught with fifty; with more, the others come to noise levels that are none, or to one of them twice.
MOST_STEPS: dict[str, int] = {
    "lcm": 50, "pndm": 999, "ddim": 999, "lms": 999, "dpm++2m": 998, "dpm++2m-sde": 998, "unipc": 998,
}  # fmt: skip
Orientation = Literal[
    "identity", "rotate90", "rotate180", "rotate270", "flip", "flip-rotate90", "flip-rotate180", "flip-rotate270"
]
D4: tuple[Orientation, ...] = (
    "identity", "rotate90", "rotate180", "rotate270", "flip", "flip-rotate90", "flip-rotate180", "flip-rotate270",
)  # fmt: skip


class LoraMethod(Model):
    """Train low-rank additions to the UNet's attention and leave the base model as it is."""

    name: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1, le=256)
    """Size of the additions. 4 to 32 suits a style; more needs more data."""
    alpha: float = Field(16.0, gt=0)
    """Strength of the additions; they are scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the additions' inputs left out at each step."""
    targets: tuple[str, ...] = Field(("to_q", "to_k", "to_v", "to_out.0"), min_length=1)
    """Names of the layers that get additions."""
    dora: bool = False
    """Learn the size and the direction of each weight apart (DoRA): closer to a full fine-tune, and slower."""
    text_encoder: bool = False
    """Add to the attention of the text encoder too; captions can then not be embedded ahead."""


class FullMethod(Model):
    """Train every weight of the UNet; autoencoder and text encoder stay as they are."""

    name: Literal["full"] = "full"


class ScratchMethod(Model):
    """Train a small UNet and text encoder from nothing, on the latents of a trained autoencoder."""

    name: Literal["scratch"] = "scratch"
    channels: tuple[int, ...] = (96, 160, 192)
    """Channels of the UNet's blocks; attention in all but the last."""
    text_width: int = Field(192, ge=32)
    """Width of the text encoder and of cross-attention."""
    text_layers: int = Field(3, ge=1)
    """Layers of the text encoder."""
    vocabulary: int = Field(1024, ge=300)
    """Size of the tokenizer, learnt from the captions."""

    @model_validator(mode="after")
    def _fits(self) -> "ScratchMethod":
        if len(self.channels) < 2 or any(count < 32 or count % 32 for count in self.channels):
            raise ValueError("channels must be two or more multiples of 32")
        if self.text_width % 32:
            raise ValueError("text_width must be a multiple of 32")
        return self


class AutoencoderMethod(Model):
    """Train the decoder of a small autoencoder whose encoder is the principal components of 4 × 4 patches."""

    name: Literal["autoencoder"] = "autoencoder"
    channels: tuple[int, int, int] = (32, 64, 96)
    """Channels of the three resolutions."""
    latent_channels: int = Field(12, ge=4, le=16)
    """Channels of the latent, at a quarter of the picture's size."""

    @model_validator(mode="after")
    def _fits(self) -> "AutoencoderMethod":
        # The fixed encoder keeps 12 numbers of a patch, then the latent, in channels of their own.
        room = 8 * (2 * -(-self.latent_channels // 8) + 2)
        if any(count % 8 for count in self.channels) or min(self.channels[:2]) < 16 or self.channels[2] < room:
            raise ValueError(f"channels must be multiples of 8, of 16 at least, the last of {room} at least")
        if self.channels[1] in (self.channels[0], self.channels[2]):
            raise ValueError("channels must differ from one resolution to the next")
        return self


class ScenesMethod(Model):
    """Train a small feature network to name the classes of real pictures."""

    name: Literal["scenes"] = "scenes"
    widths: tuple[int, ...] = (40, 80, 160, 320)
    """Channels of the four stages of a residual network."""
    input_px: int = Field(96, ge=32, le=512)
    """Side that pictures are resized to inside the network."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the truth spread over all classes."""


class TextMethod(Model):
    """Teach the base's text encoder what captions say: the class, and which picture of many is meant."""

    name: Literal["text"] = "text"
    class_weight: float = Field(1.0, ge=0)
    """Weight of naming the class, beside telling pictures apart."""


Method = Annotated[
    LoraMethod | FullMethod | ScratchMethod | AutoencoderMethod | ScenesMethod | TextMethod,
    Field(discriminator="name"),
]


class DataSettings(Model):
    """What to learn from."""

    name: str = ""
    """The data set."""
    split: str = "train"
    """The part that is trained on."""
    validation_split: str = ""
    """The part that is only measured; empty takes held-out, valid or test, whichever there is first."""
    size_px: int = Field(64, ge=16, le=2048, multiple_of=8)
    """Side of the square that pictures are resized and cropped to, in pixels."""
    buckets: bool = False
    """Keep each picture's shape: batches of one shape each, all of about the same area as the square."""
    ignore: Literal["nothing", "transparent", "black", "white"] = "nothing"
    """Pixels without data, which the loss leaves out: transparent ones, or pure black or white joined to the border."""
    normalisation: Literal["none", "dataset"] = "none"
    """dataset: subtract the mean and divide by the deviation of all pictures. The autoencoder expects none."""
    cache_precision: Literal["fp32", "fp16"] = "fp32"
    """Number format of the latents that are kept on disk; fp16 takes half the room and rounds them to eleven bits."""
    orientations: tuple[Orientation, ...] = Field(D4, min_length=1)
    """Flips and rotations that pictures are shown in."""
    caption_dropout: float = Field(0.1, ge=0, le=1)
    """Share of pictures trained without a caption, which guidance needs."""
    class_captions: float = Field(0.0, ge=0, le=1)
    """Share of captions replaced by the class template."""
    class_template: str = "a satellite image of {class}"
    """Caption made of a picture's class."""
    limit: int = Field(0, ge=0)
    """Use at most this many pictures; 0 uses all."""


class OptimiserSettings(Model):
    """How weights move."""

    name: Literal["adamw", "adamw8bit", "adafactor", "prodigy"] = "adamw"
    """adamw8bit (extra: quantize) and adafactor save memory; prodigy finds its step size by itself, from 1."""
    steps: int = Field(1000, ge=1)
    """Optimiser steps in all."""
    epochs: float = Field(0.0, ge=0)
    """Passes over the data; where given, the steps follow from it."""
    batch: int = Field(4, ge=1)
    """Pictures in one forward pass, where memory allows."""
    accumulation: int = Field(1, ge=1)
    """Forward passes before one step; batch × accumulation is the effective batch, whatever memory allows."""
    micro_batch: int = Field(0, ge=0)
    """Pictures that are really in one forward pass; 0 plans them from the free memory."""
    learning_rate: float = Field(1e-4, gt=0, le=1)
    """Largest step size."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the step size falls after warm-up."""
    fall_from: float = Field(0.0, ge=0, lt=1)
    """Share of the steps after which a cosine or linear fall begins."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the step size rises from nothing."""
    weight_decay: float = Field(0.01, ge=0)
    """Pull of every weight towards zero."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """Longer gradients are shortened to this."""
    precision: Precision = "bf16"
    """Number format of the arithmetic; weights in training stay fp32. fp16 scales the loss, for cards without bf16."""
    min_snr_gamma: float = Field(0.0, ge=0)
    """Weigh timesteps by min(SNR, gamma) (Hang et al. 2023; 5 is usual); 0 weighs all the same."""
    offset_noise: float = Field(0.0, ge=0, le=1)
    """Noise that is the same all over a picture, which lets it become dark or bright as a whole (0.05 to 0.1)."""
    gradient_checkpointing: bool = False
    """Compute activations twice to keep fewer: about a third less memory, a quarter slower."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is used in the end; 0 keeps none."""

    @property
    def effective_batch(self) -> int:
        """Pictures of one step, whatever memory allows at once."""
        return self.batch * self.accumulation

    @model_validator(mode="after")
    def _fits(self) -> "OptimiserSettings":
        if self.name == "prodigy" and self.learning_rate < 0.1:
            raise ValueError("prodigy finds its step size by itself: set learning_rate to 1")
        return self


class SavingSettings(Model):
    """When to look and to keep."""

    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints."""
    keep_last: int = Field(3, ge=1)
    """Checkpoints kept, beside the best."""
    validate_every: int = Field(100, ge=1)
    """Steps between looks at the validation loss."""
    validation_images: int = Field(64, ge=1)
    """Pictures of the fixed validation set."""
    rank_by: Literal["validation_loss", "kid"] = "validation_loss"
    """The held-out measure by which checkpoints are ranked and the best is kept."""
    patience: int = Field(0, ge=0)
    """Stop after so many looks at that measure without a better one; 0 never does."""
    probe_every: int = Field(0, ge=0)
    """Steps between looks at what the base knew and this run may forget, and at how varied tiles are; 0 for none."""
    measure_every: int = Field(0, ge=0)
    """Steps between looks at the kernel distance to the validation pictures; 0 looks at none, as it takes a while."""
    preview_every: int = Field(250, ge=1)
    """Steps between previews."""
    preview_prompts: tuple[str, ...] = ("a satellite image of a crop field",)
    """Prompts of the previews, each with its own fixed seed."""
    preview_steps: int = Field(20, ge=1, le=1000)
    """Sampling steps of a preview."""
    preview_guidance: float = Field(4.0, ge=0)
    """Guidance of a preview."""
    logs: tuple[Log, ...] = ("csv", "tensorboard")
    """What other programs can read: metrics.csv, TensorBoard's events, or W&B's, kept here (extra: wandb)."""

    @model_validator(mode="after")
    def _measures_what_it_ranks_by(self) -> "SavingSettings":
        if self.rank_by == "kid" and not self.measure_every:
            raise ValueError("rank_by = kid needs measure_every, the steps between looks at it")
        return self


class TrainSettings(Model):
    """A recipe: everything a training run is told."""

    description: str = ""
    """What the recipe is for."""
    known_problems: str = ""
    """What a user should know before starting."""
    base: str = "starter"
    """The model to begin from: starter, run, folder, file, or owner/name of the hub. Scratch takes its latents."""
    objective: Literal["base", "epsilon", "v", "flow"] = "base"
    """What the network predicts; base keeps what the base model was trained with."""
    seed: int = Field(42, ge=0, lt=2**63)
    """Order of the data, noise and timesteps follow from this and the step."""
    method: Method = LoraMethod()
    """What is trained."""
    data: DataSettings = DataSettings()
    """What to learn from."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """How weights move."""
    saving: SavingSettings = SavingSettings()
    """When to look and to keep."""


class GenerateSettings(Model):
    """A batch of tiles; the prompts lie beside it in plan.jsonl, one line a tile."""

    model: str = "starter"
    """starter, a run (run@step for one checkpoint), a folder in diffusers layout, a file, or owner/name of the hub."""
    loras: tuple[str, ...] = ()
    """LoRA files (or runs) laid over it, each FILE or FILE:STRENGTH."""
    count: int = Field(0, ge=0)
    """Tiles in all."""
    sampler: Sampler | None = None
    """Sampler; empty takes the model's own."""
    steps: int | None = Field(None, ge=1, le=1000)
    """Sampling steps; empty takes the model's own."""
    guidance: float | None = Field(None, ge=0, le=50)
    """How strongly the prompt is followed; empty takes the model's own."""
    rescale: float = Field(0.0, ge=0, le=1)
    """How far guidance's contrast is taken back (Lin et al. 2024); 0.7 suits models that predict v."""
    width_px: int | None = Field(None, ge=16, le=4096, multiple_of=8)
    """Width; empty takes the model's own."""
    height_px: int | None = Field(None, ge=16, le=4096, multiple_of=8)
    """Height; empty takes the model's own."""
    seed: int = Field(42, ge=0, lt=2**63)
    """Tile n has seed + n."""
    batch: int = Field(0, ge=0, le=1024)
    """Tiles made together; 0 plans them from the free memory."""
    precision: Precision | None = None
    """Number format of weights and arithmetic; empty takes bf16 on a GPU that has it, else fp32."""
    seamless: bool = False
    """Tiles that continue on the other side, and can be laid side by side."""
    scene: bool = False
    """Pictures larger than the model is used to, in overlapping windows of its own size."""
    upscale: Literal[1, 2, 4] = 1
    """Enlarge each tile and let the model draw the detail; what is drawn is plausible, not measured."""
    init: str = ""
    """A picture to begin from; with upscale, the picture that is enlarged."""
    mask: str = ""
    """A picture that is white where the first is to be made anew."""
    strength: float | None = Field(None, gt=0, le=1)
    """How much of a picture is drawn anew; empty takes 0.6, with a mask 1, and 0.3 to enlarge."""

    @field_validator("steps")
    @classmethod
    def _are_not_too_many(cls, steps: int | None, info: ValidationInfo) -> int | None:
        sampler = info.data.get("sampler")
        if sampler and steps and steps > MOST_STEPS.get(sampler, steps):
            raise ValueError(f"{sampler} takes {MOST_STEPS[sampler]} steps at most")
        return steps

    @model_validator(mode="after")
    def _fits(self) -> "GenerateSettings":
        if self.mask and not self.init:
            raise ValueError("a mask needs a picture to begin from (init)")
        if self.mask and self.upscale > 1:
            raise ValueError("a picture is made anew in part (mask) or enlarged (upscale), one after the other")
        return self


class GridSettings(Model):
    """Tiles side by side that differ in one, two or three settings; each axis is written NAME=A,B,C."""

    x: str
    """What varies from column to column."""
    y: str = ""
    """What varies from row to row."""
    z: str = ""
    """What varies from block to block."""
    prompt: str = ""
    """What all cells show, where no axis is of prompts."""
    negative: str = ""
    """What to steer away from."""
    tiles: GenerateSettings = GenerateSettings()
    """What no axis varies."""


class ProbeSettings(Model):
    """Tiles of fixed prompts, which tell what a model knows before it is trained."""

    model: str = "starter"
    """A run, RUN@STEP, starter, a folder, a file, or OWNER/NAME of the hub."""
    data: str = ""
    """Data set of which each class is drawn too; empty takes none."""
    count: int = Field(2, ge=1, le=100)
    """Tiles of each prompt."""


class ImportSettings(Model):
    """Bringing pictures into the workspace."""

    source: str
    """File or folder."""
    name: str
    """What the data set will be called."""
    format: str = "auto"
    """class-folders, metadata-jsonl, parquet, folder, demo; auto looks."""
    classes: tuple[str, ...] = ()
    """Classes to take; empty takes all."""
    hold_out: int = Field(0, ge=0)
    """Pictures of the training split put aside, never trained on."""
    seed: int = Field(42, ge=0)
    """Decides which pictures are put aside."""
    caption: str = ""
    """Template for pictures without a caption, such as 'a satellite image of {class}'."""
    link: bool = False
    """Link to the original files instead of copying them."""


class EvaluateSettings(Model):
    """Comparing generated tiles with real pictures."""

    generated: str
    """The batch of generated tiles."""
    real: str
    """The data set of real pictures."""
    split: str = ""
    """Its split; empty takes held-out, valid or test, whichever there is first."""
    metrics: tuple[Literal["frechet", "kid"], ...] = ("frechet", "kid")
    """What is measured."""
    network: str = "starter-encoder"
    """Feature network: starter-encoder, or inception:FILE.safetensors."""
    size_px: int = Field(64, ge=16, le=1024)
    """Side that both sets are resized to (antialiased) before the network."""
    seed: int = Field(42, ge=0)
    """Decides which real pictures are compared where there are more than are needed."""


class DownstreamSettings(Model):
    """Training a land-cover classifier and testing it on real pictures."""

    synthetic: str
    """The batch of generated tiles; its labels come from the prompts' classes."""
    real: str
    """The data set that the classifier is tested on."""
    seeds: int = Field(1, ge=1, le=100)
    """How often each arm is trained."""
    epochs: int = Field(20, ge=1, le=1000)
    """Passes over the training pictures."""
    batch: int = Field(16, ge=1)
    """Pictures in one step."""
    learning_rate: float = Field(3e-4, gt=0, le=1)
    """Step size."""
    size_px: int = Field(64, ge=32, le=512)
    """Side of the classifier's input."""
    weights: str = ""
    """ResNet-18 weights to begin from, a .safetensors file; empty begins from nothing."""
    seed: int = Field(42, ge=0)
    """First seed."""


RUN_FORMS = ("adapter", "kohya", "comfyui", "model")
"""Forms of what a run learnt; the others are of pictures."""


class ExportSettings(Model):
    """Taking a batch, data set, collection or run out of the workspace."""

    name: str
    """What is exported."""
    to: Literal["image-folder", "parquet", "gallery", "contact-sheet", "adapter", "kohya", "comfyui", "model"]
    """The form; of a run: a LoRA for diffusers, kohya's trainer or ComfyUI, or a whole model in diffusers layout."""
    target: str
    """Folder (for a contact sheet a file) that must be empty or absent."""
    precision: Precision = "fp32"
    """Number format of the weights, where a run is exported."""

    @model_validator(mode="after")
    def _has_a_target(self) -> "ExportSettings":
        if not self.target:
            raise ValueError("no target was named")
        return self
