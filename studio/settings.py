"""What each kind of job can be told: one declaration for files, the command line and forms."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from studio.config import Model

Objective = Literal["epsilon", "v", "flow"]
Precision = Literal["fp32", "bf16", "fp16"]
Sampler = Literal["pndm", "dpm++2m", "unipc", "ddim", "euler"]
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
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Names of the layers that get additions."""


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


Method = Annotated[LoraMethod | FullMethod | ScratchMethod | AutoencoderMethod, Field(discriminator="name")]


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
    orientations: tuple[Orientation, ...] = D4
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

    steps: int = Field(1000, ge=1)
    """Optimiser steps in all."""
    batch: int = Field(4, ge=1)
    """Pictures in one forward pass."""
    accumulation: int = Field(1, ge=1)
    """Forward passes before one step; batch × accumulation is the effective batch."""
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
    precision: Literal["fp32", "bf16"] = "bf16"
    """Number format of the arithmetic; weights in training stay fp32."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is used in the end; 0 keeps none."""


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


class TrainSettings(Model):
    """A recipe: everything a training run is told."""

    description: str = ""
    """What the recipe is for."""
    known_problems: str = ""
    """What a user should know before starting."""
    base: str = "starter"
    """The model to begin from: starter, a run, or a folder in diffusers layout. Scratch takes its autoencoder."""
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
    """starter, a run (run@step for one checkpoint), or a folder in diffusers layout."""
    count: int = Field(0, ge=0)
    """Tiles in all."""
    sampler: Sampler | None = None
    """Sampler; empty takes the model's own."""
    steps: int | None = Field(None, ge=1, le=1000)
    """Sampling steps; empty takes the model's own."""
    guidance: float | None = Field(None, ge=0, le=50)
    """How strongly the prompt is followed; empty takes the model's own."""
    width_px: int | None = Field(None, ge=16, le=4096, multiple_of=8)
    """Width; empty takes the model's own."""
    height_px: int | None = Field(None, ge=16, le=4096, multiple_of=8)
    """Height; empty takes the model's own."""
    seed: int = Field(42, ge=0, lt=2**63)
    """Tile n has seed + n."""
    batch: int = Field(8, ge=1)
    """Tiles made together."""
    precision: Precision = "fp32"
    """Number format of the arithmetic."""


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


class ExportSettings(Model):
    """Taking a batch, data set, collection or run out of the workspace."""

    name: str
    """What is exported."""
    to: Literal["image-folder", "parquet", "gallery", "contact-sheet", "adapter"]
    """The form."""
    target: str
    """Folder (for a contact sheet a file) that must be empty or absent."""

    @model_validator(mode="after")
    def _has_a_target(self) -> "ExportSettings":
        if not self.target:
            raise ValueError("no target was named")
        return self
