"""Random fields that terrain is painted with: float arrays (height, width), in single precision as tiles are 8-bit."""

from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
Generator = np.random.Generator


def grid(size_px: int) -> tuple[Field, Field]:
    """Coordinates of the pixel centres from 0 to 1, along x and along y."""
    line = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px
    x, y = np.meshgrid(line, line)
    return x, y


def rough(rng: Generator, size_px: int, slope: float = 2.0, low: float = 1.0, stretch: float = 1.0) -> Field:
    """A random surface of mean 0 and deviation 1 whose amplitude falls with frequency as f^-slope.

    Waves longer than 1/`low` of the side are left out. `stretch` draws the surface out in a random direction.
    """
    wide = size_px + max(8, size_px // 4)  # spectra wrap around; a margin is cut off so that tiles do not
    fy = np.fft.fftfreq(wide).astype(np.float32)[:, None] * size_px
    fx = np.fft.rfftfreq(wide).astype(np.float32)[None, :] * size_px
    if stretch != 1.0:
        angle = rng.uniform(0, np.pi)
        fx, fy = fx * np.cos(angle) + fy * np.sin(angle), (fy * np.cos(angle) - fx * np.sin(angle)) * stretch
    frequency = np.sqrt(fx * fx + fy * fy)
    amplitude = np.where(frequency < 0.5 * low, 0.0, np.maximum(frequency, 0.5) ** -slope)
    spectrum = np.fft.rfft2(rng.standard_normal((wide, wide), dtype=np.float32))
    surface = np.fft.irfft2(spectrum * amplitude, (wide, wide))[:size_px, :size_px]
    even: Field = ((surface - surface.mean()) / (surface.std() + 1e-6)).astype(np.float32)
    return even


def cells(rng: Generator, u: Field, v: Field, order: float = 0.9) -> tuple[Field, Field, npt.NDArray[np.int64], Field]:
    """Irregular cells (Worley 1996), about one for each unit of u and v; a lower `order` is more regular.

    Returns the distances to the nearest and second nearest middle, the number of the nearest, and the direction to
    it as an angle.
    """
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    column -= column.min() - 1
    row -= row.min() - 1
    u, v = u - np.floor(u.min()) + 1, v - np.floor(v.min()) + 1
    width, height = int(column.max()) + 2, int(row.max()) + 2
    middles = rng.random((2, height, width), dtype=np.float32) * order + (1 - order) / 2
    near = np.full(u.shape, 9.0, np.float32)
    second = near.copy()
    number = np.zeros(u.shape, np.int64)
    dx_near, dy_near = np.zeros_like(u), np.zeros_like(u)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            r, c = row + down, column + right
            dx, dy = c + middles[0, r, c] - u, r + middles[1, r, c] - v
            distance = dx * dx + dy * dy
            closer = distance < near
            second = np.where(closer, near, np.minimum(second, distance))
            near = np.where(closer, distance, near)
            number = np.where(closer, r * width + c, number)
            dx_near, dy_near = np.where(closer, dx, dx_near), np.where(closer, dy, dy_near)
    return np.sqrt(near), np.sqrt(second), number, np.arctan2(dy_near, dx_near)


def per_cell(rng: Generator, number: npt.NDArray[np.int64], low: float = 0.0, high: float = 1.0) -> Field:
    """One random value for each cell, spread over its pixels."""
    values: Field = rng.uniform(low, high, int(number.max()) + 1).astype(np.float32)[number]
    return values


def turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Coordinates turned by an angle about the middle of the tile."""
    x, y = x - 0.5, y - 0.5
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def shade(height: Field, strength: float = 1.0) -> Field:
    """Light from one side on a surface, about 1 on the flat; `strength` is relief per tile side."""
    down, right = np.gradient(height)
    tilt = (right + down) * np.float32(0.7 * strength * height.shape[0] / 64)
    light: Field = (1 + tilt / np.sqrt(1 + tilt * tilt)).astype(np.float32)
    return light


def smooth(value: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, and a soft step between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    step: Field = (t * t * (3 - 2 * t)).astype(np.float32)
    return step
