"""Pictures larger than a model is used to: overlapping windows of its own size, blended where they overlap."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from studio.generation.guidance import Predict


@dataclass(frozen=True)
class Windows:
    """Where the windows of a canvas lie, in cells of the latent."""

    height: int
    width: int
    size: int
    """Side of a window; a shorter side of the canvas is taken whole."""
    overlap: float = 0.5
    """Share of a window that the next one covers too."""
    wrap: bool = False
    """Windows reach over the border to the other side, so that the canvas can be laid side by side with itself."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and columns of each window."""
        for top in self._starts(self.height):
            for left in self._starts(self.width):
                yield self._cells(top, self.height), self._cells(left, self.width)

    def __len__(self) -> int:
        return len(self._starts(self.height)) * len(self._starts(self.width))

    def _starts(self, side: int) -> list[int]:
        """Evenly spread, no farther apart than the overlap allows."""
        stride = max(1, round(self.size * (1 - self.overlap)))
        if self.wrap:
            count = -(-side // stride)
            return [round(index * side / count) for index in range(count)]
        if side <= self.size:
            return [0]
        count = -(-(side - self.size) // stride) + 1
        return [round(index * (side - self.size) / (count - 1)) for index in range(count)]

    def _cells(self, start: int, side: int) -> Tensor:
        return torch.arange(start, start + min(self.size, side)) % side


def _weights(height: int, width: int, device: torch.device) -> Tensor:
    """(height, width): a Gaussian hill over a window, never zero (Jiménez 2023, Mixture of Diffusers, sec. 3.2)."""

    def hill(side: int) -> Tensor:
        places = (torch.arange(side, device=device) - (side - 1) / 2) / side
        return torch.exp(-(places**2) / (2 * 0.15**2))

    return hill(height)[:, None] * hill(width)[None, :]


def blended(
    make: Callable[[Tensor, Tensor], Tensor], windows: Windows, like: Tensor, channels: int, enlarged: int = 1
) -> Tensor:
    """A canvas (n, channels, height, width) float32 put together from what is made for the rows and columns of windows.

    Args:
        like: where the canvas lies and how many there are of it.
        enlarged: cells of the result for one cell of the windows, along one side.
    """
    shape = (windows.height * enlarged, windows.width * enlarged)
    canvas = torch.zeros((len(like), channels, *shape), device=like.device)
    total = torch.zeros(shape, device=like.device)
    for rows, columns in windows:
        down, across = (cells_of(cells, enlarged).to(like.device) for cells in (rows, columns))
        weights = _weights(len(down), len(across), like.device)
        canvas[:, :, down[:, None], across[None, :]] += make(rows, columns).float().to(like.device) * weights
        total[down[:, None], across[None, :]] += weights
    return canvas / total


def in_windows(windows: Windows) -> Callable[[Predict], Predict]:
    """Let a prediction look at one window after the other, in the memory of one.

    As in MultiDiffusion (Bar-Tal et al. 2023, eq. 5), with the weights of Mixture of Diffusers; predictions are
    averaged and the sampler steps over the whole canvas, so that every sampler can be used.
    """

    def around(predict: Predict) -> Predict:
        def whole(latents: Tensor, time: Tensor, index: int) -> Tensor:
            def one(rows: Tensor, columns: Tensor) -> Tensor:
                return predict(latents[:, :, rows[:, None], columns[None, :]], time, index)

            return blended(one, windows, latents, latents.shape[1])

        return whole

    return around


def cells_of(cells: Tensor, times: int) -> Tensor:
    """Finer cells, so many for one along a side, of a row of cells."""
    return (cells[:, None] * times + torch.arange(times)).flatten()
