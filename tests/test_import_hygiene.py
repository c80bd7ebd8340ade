"""Opening the studio is fast because it loads nothing that only a job needs; each guard looks from a fresh process."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "peft", "torchgeo", "torchmetrics", "lightning"}
INTERFACE = {"textual", "textual_image", "textual_plot"}
LIGHT_PACKAGES = ("datasets", "prompts")
JOB_PACKAGES = ("models", "measures", "generation", "training", "evaluation", "exports")


def loaded_by(*modules: str) -> set[str]:
    """Top-level names in a fresh process once it has imported these modules."""
    code = f"import {', '.join(modules)}, json, sys; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def light_modules() -> list[str]:
    """Every module of the engine but those that only a job reaches."""
    files = sorted((REPOSITORY / "studio").rglob("*.py"))
    names = [file.relative_to(REPOSITORY).with_suffix("").parts for file in files]
    return [
        ".".join(parts).removesuffix(".__init__")
        for parts in names
        if parts[1] not in JOB_PACKAGES and parts[-1] != "__main__"
    ]


@pytest.mark.parametrize("module", ["studio.cli", "studio.session", "studio.jobs", "studio.runs"])
def test_opening_the_studio_loads_neither_torch_nor_textual(module: str) -> None:
    assert loaded_by(module) & (HEAVY | INTERFACE) == set()


def test_no_light_module_of_the_engine_loads_torch() -> None:
    modules = light_modules()
    assert {f"studio.{name}" for name in LIGHT_PACKAGES} <= set(modules)
    assert loaded_by(*modules) & (HEAVY | INTERFACE) == set()


def test_the_interface_loads_no_torch() -> None:
    loaded = loaded_by("screens.app", "screens.shell")
    assert "textual" in loaded
    assert loaded & HEAVY == set()


def test_no_screen_loads_torch() -> None:
    files = sorted((REPOSITORY / "screens").rglob("*.py"))
    modules = [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files]
    assert loaded_by(*(name.removesuffix(".__init__") for name in modules)) & HEAVY == set()


@pytest.mark.parametrize("file", sorted((REPOSITORY / "studio").rglob("*.py")), ids=lambda file: file.stem)
def test_the_engine_never_imports_textual(file: Path) -> None:
    """Not even late, inside a function; jobs run where there is no terminal."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert imported & INTERFACE == set()
