"""The first frame comes quickly, as nothing heavy is loaded before it."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "diffusers", "transformers", "torchgeo", "lightning", "textual_image", "textual_plot", "numpy", "PIL")
CODE = """
import asyncio, sys
from pathlib import Path
from screens.shell import StudioApp
from studio.session import Session
from studio.workspace import Workspace

async def main():
    app = StudioApp(Session(Workspace(Path(sys.argv[1]))))
    app._start_watching = lambda: app.exit(0)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        print(sorted(set(sys.argv[2:]) & set(sys.modules)))

asyncio.run(main())
"""


def test_the_first_frame_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "studio.toml").write_text("schema = 1\n")
    command = [sys.executable, "-c", CODE, str(tmp_path), *HEAVY]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "[]", ran.stderr
