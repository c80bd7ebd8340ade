from itertools import pairwise

import pytest
import torch
from torch import Tensor

from studio.generation.guidance import Predict
from studio.generation.windows import Windows, blended, in_windows

CANVASES = [
    Windows(40, 56, 16), Windows(16, 16, 16), Windows(17, 90, 16, 0.25), Windows(8, 40, 16),
    Windows(40, 56, 16, wrap=True), Windows(16, 16, 16, wrap=True), Windows(24, 40, 16, 0.25, wrap=True),
]  # fmt: skip


@pytest.mark.parametrize("windows", CANVASES, ids=str)
def test_windows_cover_every_cell_and_overlap_as_much_as_was_asked(windows: Windows) -> None:
    seen = torch.zeros(windows.height, windows.width)
    for rows, columns in windows:
        assert len(rows) == min(windows.size, windows.height)
        assert len(columns) == min(windows.size, windows.width)
        seen[rows[:, None], columns[None, :]] += 1
    assert seen.min() >= 1
    tops = sorted({int(rows[0]) for rows, _ in windows})
    steps = [after - before for before, after in pairwise(tops)]
    assert all(step <= round(windows.size * (1 - windows.overlap)) for step in steps)
    assert len(list(windows)) == len(windows)


def test_only_windows_that_wrap_reach_over_the_border() -> None:
    def reaches(windows: Windows) -> bool:
        return any(int(rows[-1]) < int(rows[0]) for rows, _ in windows)

    assert reaches(Windows(32, 32, 16, wrap=True))
    assert not reaches(Windows(32, 32, 16))


@pytest.mark.parametrize("windows", CANVASES, ids=str)
def test_what_the_windows_agree_on_is_what_the_canvas_shows(windows: Windows) -> None:
    """Blending adds nothing of its own: neither at borders nor where many windows lie over each other."""
    picture = torch.randn(2, 3, windows.height, windows.width, generator=torch.Generator().manual_seed(1))
    again = blended(lambda rows, columns: picture[:, :, rows[:, None], columns[None, :]], windows, picture, 3)
    assert torch.allclose(again, picture, atol=1e-5)


def test_an_enlarged_canvas_is_put_together_at_its_own_size() -> None:
    windows = Windows(20, 28, 16)
    picture = torch.randn(1, 3, 80, 112, generator=torch.Generator().manual_seed(2))

    def part(rows: Tensor, columns: Tensor) -> Tensor:
        top, left = int(rows[0]) * 4, int(columns[0]) * 4
        return picture[:, :, top : top + 4 * len(rows), left : left + 4 * len(columns)]

    assert torch.allclose(blended(part, windows, picture, 3, enlarged=4), picture, atol=1e-5)


def test_a_prediction_in_windows_never_sees_more_than_one() -> None:
    sizes = []

    def predict(latents: Tensor, time: Tensor, index: int) -> Tensor:
        sizes.append(tuple(latents.shape[2:]))
        return latents * 2 + index

    whole: Predict = in_windows(Windows(64, 48, 16))(predict)
    latents = torch.randn(1, 4, 64, 48, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(whole(latents, torch.tensor(500), 7), latents * 2 + 7, atol=1e-5)
    assert set(sizes) == {(16, 16)}
    assert len(sizes) == len(Windows(64, 48, 16)) == 7 * 5


def test_where_windows_disagree_the_canvas_goes_smoothly_from_one_to_the_other() -> None:
    windows = Windows(16, 24, 16)
    starts = sorted({int(columns[0]) for _, columns in windows})
    canvas = blended(
        lambda rows, columns: torch.full((1, 1, 16, 16), float(starts.index(int(columns[0])))),
        windows,
        torch.zeros(1),
        1,
    )
    line = canvas[0, 0, 8]
    assert (line[0], line[-1]) == (0, 1)
    assert line.diff().min() >= 0
    assert line.diff().max() < 0.4
