"""What is said and settled before a run's first step: advice, an estimate, and the pictures that go at once."""

from studio.context import Context
from studio.events import Event, Planned
from studio.settings import FullMethod, LoraMethod, TrainSettings
from studio.training.estimate import Estimate, estimate, needs_of, planned_micro_batch
from studio.training.recipes import advice, amount, native_size_px
from studio.workspace import Workspace


def before(workspace: Workspace, settings: TrainSettings, device: str) -> list[Event]:
    """Advice on the recipe for its data set, then what the run is expected to take."""
    said: list[Event] = [*advice(settings, amount(workspace, settings), native_size_px(workspace, settings.base))]
    found = estimate(workspace, settings, device)
    return said if found is None else [*said, as_event(found)]


def as_event(found: Estimate) -> Planned:
    return Planned(
        found.steps,
        found.epochs,
        found.amount.training,
        found.effective_batch,
        found.micro_batch,
        found.memory_bytes,
        found.seconds,
        found.pace,
        found.trained_parameters,
        found.all_parameters,
    )


def micro_batch_for(context: Context, settings: TrainSettings, rows: int) -> int:
    """Pictures of this process's rows of a step that go through the network at once."""
    optimiser = settings.optimiser
    if optimiser.micro_batch:
        return optimiser.micro_batch
    if context.device.startswith("cuda") and isinstance(settings.method, LoraMethod | FullMethod):
        import torch  # 2-3 s; the estimate does without

        needs = needs_of(context.workspace, settings, context.device)
        # What this process holds already, the model, is part of what the run needs.
        free = torch.cuda.mem_get_info(context.device)[0] + torch.cuda.memory_reserved(context.device)
        return planned_micro_batch(needs, free, rows) if needs else optimiser.batch
    return optimiser.batch


def peak_memory_bytes(device: str) -> float:
    """The most that this process has held on its device so far."""
    if device.startswith("cuda"):
        import torch  # the run has loaded it

        return float(torch.cuda.max_memory_reserved(device))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
