"""What a person should know of how a batch is sampled, before its first tile."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from studio.events import Warned
from studio.generation.inputs import kept_input
from studio.generation.plans import PlannedTile
from studio.generation.provenance import Sampling
from studio.generation.samplers import is_its_own
from studio.images import open_picture
from studio.models.load import DiffusionModel
from studio.models.registry import ModelRef
from studio.settings import GenerateSettings

_NOTABLE_SHARE = 0.05


def remarks(
    ref: ModelRef, model: DiffusionModel, settings: GenerateSettings, sampling: Sampling, tiles: Iterable[PlannedTile]
) -> Iterator[Warned]:
    """What is done otherwise than the model or the settings say, and what of the settings does nothing."""
    if not settings.sampler and not ref.defaults().sampler and not is_its_own(sampling.sampler, model.scheduler):
        yield _another_sampler(ref, model, sampling)
    if sampling.guidance <= 1:
        if any(tile.negative for tile in tiles):
            yield Warned(f"The negative prompt does nothing at guidance {sampling.guidance:g}.", _MORE_GUIDANCE)
        if sampling.rescale:
            yield Warned(f"Rescaling does nothing at guidance {sampling.guidance:g}.", _MORE_GUIDANCE)


_MORE_GUIDANCE = "Give --guidance above 1."


def _another_sampler(ref: ModelRef, model: DiffusionModel, sampling: Sampling) -> Warned:
    named = str(model.scheduler.get("_class_name")) + (" with Karras" * bool(model.scheduler.get("use_karras_sigmas")))
    return Warned(
        f"{ref.name} names the sampler {named}, which is not known here; {sampling.sampler} takes its place.",
        "Give --sampler.",
    )


def fitting_remarks(folder: Path, settings: GenerateSettings, sampling: Sampling) -> Iterator[Warned]:
    """How much of the picture that tiles begin from is lost, where that is a notable share.

    Args:
        folder: the batch's, where the picture lies.
    """
    if not sampling.init_sha256:
        return
    width, height = open_picture(kept_input(folder, sampling.init_sha256)).size
    wide, high = sampling.width_px, sampling.height_px
    scale = max(wide / width, high / height)
    seen = (wide * high) / (width * height * scale**2)
    said = ""
    if 1 - seen > _NOTABLE_SHARE:
        said = "cropped to its middle, made"
    elif not settings.width_px and abs(scale - 1) > _NOTABLE_SHARE:
        said = "shrunk to" if scale < 1 else "enlarged to"
    if said:
        message = f"The picture to begin from, {width} × {height}, is {said} {wide} × {high}."
        yield Warned(message, _own_size(width, height))


def _own_size(width: int, height: int) -> str:
    wide, high = (max(16, min(4096, side // 8 * 8)) for side in (width, height))
    return f"Give --size {wide}x{high} for its own size."
