from pathlib import Path

import pytest

from studio.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "studio.toml").write_text("schema = 1\n")
    return Workspace(root)
