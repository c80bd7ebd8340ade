"""A batch that fills a class plan: what is kept, what is put aside, and what a kill leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from studio import files, requests
from studio.checks import check
from studio.control import Control
from studio.events import Event, ImageSaved, Phase, Refused, Warned
from studio.generation import keeping
from studio.generation.class_plan import Plan, plan_classes, rounds
from studio.images import read_recipe
from studio.runs import state_of
from studio.settings import GenerateSettings
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import Watch, ignore, run

# What the tiny model draws is all alike, so that this likeness refuses some of it and not all.
LIKENESS = 0.86
PLAN = Plan.model_validate(
    {
        "attempts": 2,
        "filters": {"near_duplicates": LIKENESS, "network": "starter-encoder", "artefacts": False, "borders": False},
        "classes": [
            {"label": "river", "name": "Rivers", "count": 3, "prompts": ["one river"]},
            {"label": "road", "count": 2, "prompts": ["some {road|town}"], "negative": "fog"},
        ],
    }
)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("plans") / "workspace")


def fill(
    workspace: Workspace, model: Path, name: str, watch: Watch = ignore, plan: Plan = PLAN
) -> tuple[Any, list[Event], Path]:
    settings = GenerateSettings(model=str(model), batch=2, steps=2, seed=5)
    job = requests.generate_job(workspace, settings, plan_classes(plan, 5), name, plan=plan)
    return *run(job, watch), job.folder.path


def contents(folder: Path) -> dict[str, bytes]:
    found = [path for name in ("tiles", "refused") for path in (folder / name).iterdir()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}


@pytest.fixture(scope="module")
def filled(workspace: Workspace, tiny_flow: Path) -> tuple[Any, list[Event], Path]:
    return fill(workspace, tiny_flow, "filled")


def test_a_plan_ends_full_or_says_what_is_missing(filled: tuple[Any, list[Event], Path]) -> None:
    finished, events, folder = filled
    report = json.loads((folder / "class-plan.json").read_text())
    kept = len(list((folder / "tiles").iterdir()))
    refused = len(list((folder / "refused").iterdir()))
    assert finished.outcome == "completed"
    assert refused > 0, "the likeness refuses nothing any more"
    assert finished.result["requested"] == 5
    assert finished.result["saved"] == kept == sum(one["kept"] for one in report["classes"])
    assert finished.result["refused"] == {"near-duplicate": refused}
    assert finished.result["missing"] == {one["label"]: one["missing"] for one in report["classes"] if one["missing"]}
    assert [one["attempts"] for one in report["classes"]] == [
        one["kept"] + sum(one["refused"].values()) for one in report["classes"]
    ]
    assert any(isinstance(event, Warned) and "are missing" in event.message for event in events) == (kept < 5)
    assert [event for event in events if isinstance(event, Phase) and event.total == 5][-1].done == kept


def test_a_refused_tile_lies_aside_with_its_recipe_and_the_reason(filled: tuple[Any, list[Event], Path]) -> None:
    _, events, folder = filled
    told = {event.file: event.reason for event in events if isinstance(event, Refused)}
    assert told.keys() == {f"refused/{path.name}" for path in (folder / "refused").iterdir()}
    for name, reason in told.items():
        recipe = read_recipe(folder / name)
        assert recipe["refused"] == reason
        assert reason.startswith("near-duplicate: of 0000")
        assert recipe["seed"] == plan_classes(PLAN, 5)[recipe["index"]].seed
    assert not {event.path for event in events if isinstance(event, ImageSaved)} & told.keys()
    assert state_of(folder).refused == [event for event in events if isinstance(event, Refused)]


def test_the_batch_is_whole(filled: tuple[Any, list[Event], Path], workspace: Workspace) -> None:
    assert files.manifest_faults(filled[2]) == []
    assert [problem for problem in check(workspace, deep=True) if problem.path.is_relative_to(filled[2])] == []


@pytest.mark.parametrize("after", [1, 4])
def test_a_stopped_plan_ends_as_it_would_have(
    after: int, workspace: Workspace, tiny_flow: Path, filled: tuple[Any, list[Event], Path]
) -> None:
    seen: list[Event] = []

    def watch(event: Event, control: Control) -> None:
        if isinstance(event, ImageSaved | Refused):
            seen.append(event)
            if len(seen) == after:
                control.ask("stop")

    stopped, _, folder = fill(workspace, tiny_flow, f"stopped-{after}", watch)
    assert stopped.outcome == "stopped"
    # As a kill would leave it: a tile of the last batch is not there, and another is half written.
    newest = max((path for path in folder.rglob("*.png")), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    (folder / "refused" / ".tmp-1-000009.png").write_bytes(b"\x89PNG")
    finished, _, _ = fill(workspace, tiny_flow, f"stopped-{after}")
    assert contents(folder) == contents(filled[2])
    assert finished.result == filled[0].result | {"batch": f"stopped-{after}"}
    assert (folder / "class-plan.json").read_bytes() == (filled[2] / "class-plan.json").read_bytes()


_SAVED = """
import os, signal, sys
from pathlib import Path
import torch
from studio import images, requests
from studio.control import Control
from studio.generation import keeping
from studio.jobs import execute
from studio.workspace import Workspace

workspace, name, left = Workspace(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
save = keeping.save_tile

def save_and_die(*given):
    global left
    sha = save(*given)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)  # the tile is on disk, and nobody was told
    return sha

keeping.save_tile = save_and_die
execute(requests.job_of(workspace, requests.JobFolder(workspace.batches / name)), Control())
"""


class Killed(BaseException):
    """Passes every handler, as nothing is told by a process that is killed."""


def test_deaths_between_a_tile_and_its_telling_lose_nothing(
    workspace: Workspace, tiny_flow: Path, filled: tuple[Any, list[Event], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = keeping.save_tile, list[Path]()

    def save_and_die(path: Path, *given: Any) -> str:
        sha = save(path, *given)
        saved.append(path)
        if len(saved) in (1, 4):
            raise Killed
        return sha

    monkeypatch.setattr(keeping, "save_tile", save_and_die)
    for _ in range(2):
        with pytest.raises(Killed):
            fill(workspace, tiny_flow, "died")
    finished, _, folder = fill(workspace, tiny_flow, "died")
    assert len(saved) == len(set(saved)) == len(contents(folder))
    assert finished.result == filled[0].result | {"batch": "died"}
    assert contents(folder) == contents(filled[2])
    assert [problem for problem in check(workspace, deep=True) if problem.path.is_relative_to(folder)] == []


@pytest.mark.soak
def test_kills_lose_nothing(workspace: Workspace, tiny_flow: Path, filled: tuple[Any, list[Event], Path]) -> None:
    settings = GenerateSettings(model=str(tiny_flow), batch=2, steps=2, seed=5)
    job = requests.generate_job(workspace, settings, plan_classes(PLAN, 5), "killed", plan=PLAN)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    for left in (1, 3):
        words = [sys.executable, "-c", _SAVED, str(workspace.root), "killed", str(left)]
        died = subprocess.run(words, env=environment, capture_output=True, timeout=300, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert state_of(job.folder.path).status == "interrupted"
    finished, _ = run(job)
    assert finished.result == filled[0].result | {"batch": "killed"}
    assert contents(job.folder.path) == contents(filled[2])
    assert [problem for problem in check(workspace, deep=True) if problem.path.is_relative_to(job.folder.path)] == []


def test_every_attempt_of_a_hopeless_class_is_used_and_no_more(workspace: Workspace, tiny_flow: Path) -> None:
    plan = PLAN.model_copy(update={"filters": PLAN.filters.model_copy(update={"near_duplicates": 0.01})})
    finished, events, folder = fill(workspace, tiny_flow, "hopeless", plan=plan)
    assert finished.result["saved"] == 1, "all tiles but the first are like it"
    assert finished.result["missing"] == {"river": 2, "road": 2}
    assert len(list((folder / "refused").iterdir())) == 9
    assert [event.message for event in events if isinstance(event, Warned)] == [
        "The attempts ended before the plan was full: 2 of 3 of Rivers, 2 of 2 of road are missing."
    ]


def test_a_plan_of_which_every_tile_is_refused_fails(workspace: Workspace, tiny_flow: Path) -> None:
    filters = {"network": "scenes", "margin": 0.9999, "near_duplicates": 0, "artefacts": False, "borders": False}
    rows = [{"label": "Farmland", "count": 2, "prompts": ["one river"]}]
    plan = Plan.model_validate({"attempts": 1, "filters": filters, "classes": rows})
    finished, _, folder = fill(workspace, tiny_flow, "nothing", plan=plan)
    assert (finished.outcome, finished.exit_code) == ("failed", 1)
    assert finished.message == "Every attempt of the class plan was refused: 2 class."
    assert len(list((folder / "refused").iterdir())) == 2
    assert json.loads((folder / "class-plan.json").read_text())["classes"][0]["missing"] == 2
    assert state_of(folder).status == "failed"


def test_a_plan_without_filters_keeps_the_first_of_everything(workspace: Workspace, tiny_flow: Path) -> None:
    filters = {"near_duplicates": 0, "artefacts": False, "borders": False}
    plan = Plan.model_validate(PLAN.model_dump() | {"filters": filters})
    finished, _, folder = fill(workspace, tiny_flow, "open", plan=plan)
    first = next(rounds(plan, plan_classes(plan, 5), {}))
    assert sorted(path.name for path in (folder / "tiles").iterdir()) == [f"{one.index + 1:06d}.png" for one in first]
    assert (finished.result["saved"], finished.result["refused"], finished.result["missing"]) == (5, {}, {})


def test_a_network_that_is_not_there_is_told_before_anything_is_made(workspace: Workspace, tiny_flow: Path) -> None:
    plan = PLAN.model_copy(update={"filters": PLAN.filters.model_copy(update={"network": "scense"})})
    finished, events, _ = fill(workspace, tiny_flow, "unknown", plan=plan)
    assert (finished.outcome, finished.exit_code) == ("failed", 2)
    assert "scenes" in finished.hint
    assert not [event for event in events if isinstance(event, ImageSaved)]
