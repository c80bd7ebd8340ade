"""The wheel holds all that the studio needs, and works away from the checkout."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import studio

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("studio", "screens", "workspace_template")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; the test fails with its complaint where it fails."""
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{command} gave {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=REPOSITORY)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    name = f"rs_studio-{studio.__version__}.dist-info/METADATA"
    return Parser().parsestr(zipfile.ZipFile(wheel).read(name).decode())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_holds_every_file_of_a_package(package: str, contents: set[str]) -> None:
    on_disk = {
        file.relative_to(REPOSITORY).as_posix()
        for file in (REPOSITORY / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert on_disk
    assert on_disk == {name for name in contents if name.startswith(f"{package}/")}


def test_the_wheel_holds_style_sheets_settings_and_the_starter_model(contents: set[str]) -> None:
    assert "screens/app.tcss" in contents
    assert "workspace_template/studio.toml" in contents
    starter = {name for name in contents if name.startswith("workspace_template/models/starter/")}
    assert {Path(name).suffix for name in starter} >= {".json", ".safetensors"}


def test_the_wheel_holds_nothing_else(contents: set[str]) -> None:
    dist_info = f"rs_studio-{studio.__version__}.dist-info"
    assert {name.split("/")[0] for name in contents} == {*PACKAGES, dist_info}
    assert f"{dist_info}/licenses/LICENSE" in contents


def test_the_wheel_says_who_may_use_it_and_where_it_runs(metadata: Message) -> None:
    assert metadata["Name"] == "rs-studio"
    assert metadata["Version"] == studio.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_changelog_knows_this_version() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(studio.__version__)}\]", changelog, re.MULTILINE)


def test_every_dependency_says_what_it_is_for() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    lines = {line.strip() for line in text.splitlines()}
    for dependency in tomllib.loads(text)["project"]["dependencies"]:
        [line] = [line for line in lines if line.startswith(f'"{dependency}"')]
        assert "# " in line, f"{dependency} has no reason beside it"


def test_the_installed_wheel_makes_a_workspace_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    alone = ("--quiet", "--no-deps", "--no-index", "--target", site)
    run(sys.executable, "-m", "pip", "install", *alone, wheel, cwd=tmp_path)
    found = run(sys.executable, "-P", "-c", "import studio; print(studio.__file__)", cwd=tmp_path, PYTHONPATH=str(site))
    assert Path(found.strip()).is_relative_to(site)

    run(site / "bin" / "rs-studio", tmp_path / "ws", "init", cwd=tmp_path, PYTHONPATH=str(site))
    assert (tmp_path / "ws" / "studio.toml").is_file()


@pytest.mark.soak
def test_the_wheel_runs_the_whole_circle_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Minutes, some 6 GB of disk and a package index: the proof that no dependency is missing."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    run(tmp_path / "venv" / "bin" / "pip", "install", "--quiet", wheel, cwd=tmp_path)
    run(tmp_path / "venv" / "bin" / "rs-studio", tmp_path / "ws", "demo", cwd=tmp_path)
    run(tmp_path / "venv" / "bin" / "rs-studio", tmp_path / "ws", "check", cwd=tmp_path)
