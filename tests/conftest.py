"""What every test shares: a clean environment, and real imagery where it is at hand."""

import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# Set before anything heavy is imported, here and in every process that a test starts.
os.environ.update(
    OMP_NUM_THREADS="1",  # two test processes share two cores
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",  # nothing needs the network
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    MPLBACKEND="Agg",
    TERM="xterm-256color",
    COLORTERM="truecolor",
)
for inherited in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TEXTUAL", "HF_TOKEN", "OPENAI_API_KEY", "WS"):
    os.environ.pop(inherited, None)


def pytest_report_header() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("textual", "torch", "diffusers", "torchgeo"))


@pytest.fixture(scope="session", autouse=True)
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A developer's keys, settings and caches change no result."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("HF_HOME", str(home / "huggingface"))
        for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TORCH_HOME"):
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery, in RS_STUDIO_TEST_DATA or beside the checkout; without it the test is skipped."""
    given = os.environ.get("RS_STUDIO_TEST_DATA")
    folder = Path(given) if given else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"Real imagery is not at {folder}; set RS_STUDIO_TEST_DATA to its folder.")
    return folder
