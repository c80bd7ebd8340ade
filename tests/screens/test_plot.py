from pathlib import Path

from textual.app import App, ComposeResult

from screens.watching import Watched
from screens.widgets.plot import RunPlot
from studio.events import StepDone
from studio.runs import JobFolder, RunWatch


class PlotApp(App[None]):
    def compose(self) -> ComposeResult:
        yield RunPlot()


def job_with_steps(folder: Path, count: int) -> Watched:
    steps = [StepDone(step + 1, 1.0 / (step + 1), 1e-4, 1.0, 4, 0.5) for step in range(count)]
    return Watched(RunWatch(JobFolder(folder)), "runs", steps)


async def test_a_curve_comes_back_after_a_run_that_had_none(tmp_path: Path) -> None:
    async with PlotApp().run_test(size=(80, 24)) as pilot:
        plot = pilot.app.query_one(RunPlot)
        for count, is_drawn in ((20, True), (1, False), (30, True)):
            plot.show(job_with_steps(tmp_path / str(count), count))
            await pilot.pause()
            await pilot.pause()
            assert plot.query_one(".nothing").display is not is_drawn
            assert plot._plot.display is is_drawn
            assert not is_drawn or plot._drawn[2] == count
