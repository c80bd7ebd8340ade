"""Models that several packages are tested with; each is made once, when first asked for."""

from pathlib import Path

import pytest

from studio.workspace import STARTER, Workspace, make_workspace


@pytest.fixture
def made_workspace(tmp_path: Path) -> Workspace:
    """A workspace as the template makes it."""
    return make_workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def tiny_flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.studio.small_models import save_tiny

    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-flow", "flow")


@pytest.fixture(scope="session")
def tiny_epsilon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.studio.small_models import save_tiny

    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-epsilon", "epsilon")


@pytest.fixture(scope="session")
def narrow(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of 1.5's true shape and tokenizer, but narrow."""
    from tests.studio.small_models import save_narrow

    return save_narrow(tmp_path_factory.mktemp("models") / "narrow", shared_data / "sd15_config")


@pytest.fixture(scope="session")
def narrow_first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 1 with a small vocabulary of its own, but narrow."""
    from tests.studio.small_models import save_family

    return save_family(tmp_path_factory.mktemp("models") / "narrow-first", "sd1")


@pytest.fixture(scope="session")
def narrow_v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion 2 that predicts v, but narrow."""
    from tests.studio.small_models import save_family

    return save_family(tmp_path_factory.mktemp("models") / "narrow-v", "sd2")


@pytest.fixture(scope="session")
def narrow_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion XL with two text encoders, but narrow."""
    from tests.studio.small_models import save_family

    return save_family(tmp_path_factory.mktemp("models") / "narrow-xl", "sdxl")


@pytest.fixture(scope="session")
def starter() -> Path:
    """The model that ships with the studio; what it makes is not judged here."""
    if not (STARTER / "model_index.json").is_file():
        pytest.skip("The starter has not been made yet.")
    return STARTER
