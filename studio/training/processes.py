"""One run over several processes: which rows are a process's own, and what all of them agree on."""

import atexit
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from studio import launch
from studio.errors import StudioError

T = TypeVar("T")

_BUCKET = 2**26  # numbers; 256 MiB of float32 beside the gradients themselves
# A run may be paused over a weekend, and the first process may encode pictures for hours while the others wait. Those
# that die are noticed by the launcher, not by the clock.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Team:
    """The processes of one run, and this one's place among them; with a size of 1, all here is done at no cost."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    """Processes on this machine."""
    device: str = ""
    """What this process computes on; empty leaves it to the job."""

    @property
    def leads(self) -> bool:
        """Whether this process journals, measures and saves for all."""
        return self.rank == 0

    def own(self, rows: range) -> range:
        """This process's part of a step's rows, next to each other; the parts differ by one row at most.

        Raises:
            StudioError: there is not a row for each.
        """
        if len(rows) < self.size:
            raise StudioError(
                f"An effective batch of {len(rows)} cannot be spread over {self.size} processes.",
                "Use fewer with --processes, or --set batch=… or accumulation=… for more rows.",
            )
        return rows[len(rows) * self.rank // self.size : len(rows) * (self.rank + 1) // self.size]

    def agree(self, value: T | None = None) -> T:
        """What the first process says; the others' values are not looked at. Waits for all."""
        told = [value if self.leads else None]
        if self.size > 1:
            self._with_all(lambda: distributed.broadcast_object_list(told, src=0))
        return told[0]  # type: ignore[return-value]

    def after_the_first(self, act: Callable[[], T]) -> T:
        """Act in the first process, then in the others, which find on disk what it made there."""
        made = act() if self.leads else None
        self.agree()
        return made if self.leads else act()  # type: ignore[return-value]

    def add(self, *numbers: float) -> list[float]:
        """Each number summed over the processes, in float64."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        self._with_all(lambda: distributed.all_reduce(sums))
        return [float(one) for one in sums]

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace each gradient by its sum over the processes, a few large pieces at a time."""
        if self.size > 1:
            self._in_pieces([one.grad for one in parameters if one.grad is not None], distributed.all_reduce)

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, so that all set out from the same bits."""
        if self.size > 1:
            self._in_pieces([one.detach() for one in tensors], lambda piece: distributed.broadcast(piece, src=0))

    @torch.no_grad()
    def _in_pieces(self, tensors: Sequence[Tensor], act: Callable[[Tensor], object]) -> None:
        for some in _pieces(tensors):
            flat = torch.cat([one.reshape(-1) for one in some])
            self._with_all(lambda flat=flat: act(flat))  # type: ignore[misc]
            for one, part in zip(some, torch.split(flat, [one.numel() for one in some]), strict=True):
                one.copy_(part.view(one.shape))

    def _with_all(self, act: Callable[[], object]) -> None:
        try:
            act()
        except RuntimeError as error:  # gloo and NCCL say it in many ways
            reason = re.sub(r"^\[[^]]*\] ", "", str(error).splitlines()[0]).partition(". ")[
                0
            ]  # no line of their source
            raise StudioError(
                f"Process {self.rank + 1} of {self.size} lost the others: {reason}.",
                "log.txt tells what happened to them. Resuming goes on from the newest checkpoint.",
            ) from error


def join() -> Team:
    """Meet the other processes that were started with this one; alone where there are none.

    What processors tell each other goes through gloo, so that waiting keeps no GPU busy; what GPUs do, through NCCL.
    """
    if not launch.is_one_of_several():
        return Team()
    from accelerate import PartialState
    from accelerate.utils import check_cuda_p2p_ib_support

    on_gpus = torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true")
    if on_gpus and not check_cuda_p2p_ib_support():  # RTX 4000: what `accelerate launch` does for them
        os.environ.setdefault("NCCL_P2P_DISABLE", "1")
        os.environ.setdefault("NCCL_IB_DISABLE", "1")
    if not distributed.is_initialized():
        atexit.register(_part)
    state = PartialState(cpu=not on_gpus, backend="cuda:nccl,cpu:gloo" if on_gpus else "gloo", timeout=_PATIENCE)
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Team(state.process_index, state.num_processes, local_size, str(state.device))


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _pieces(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one kind together, until there are enough; all processes cut alike, as all have the same tensors."""
    piece: list[Tensor] = []
    count = 0
    for one in tensors:
        if piece and (count + one.numel() > _BUCKET or one.dtype != piece[0].dtype or one.device != piece[0].device):
            yield piece
            piece, count = [], 0
        piece.append(one)
        count += one.numel()
    if piece:
        yield piece
