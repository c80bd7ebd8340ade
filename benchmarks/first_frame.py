"""Time from the command to the studio's first frame, on a pseudo-terminal of 120 × 36.

    python benchmarks/first_frame.py [--starts 10] [WORKSPACE]

The first start warms the caches and is not counted. Prints the median and the slowest, as JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from pty_screen import PtyScreen

FRAME = "1 Home"  # the first line of every screen; the footer below it comes in the same frame


def first_frame_seconds(command: Path, workspace: Path) -> float:
    screen = PtyScreen([str(command), str(workspace)])
    try:
        if screen.wait_for(FRAME, 30) is None:
            raise SystemExit("The studio drew nothing in 30 s:\n" + "\n".join(screen.lines()))
        return time.perf_counter() - screen.began
    finally:
        screen.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path, nargs="?")
    parser.add_argument("--starts", type=int, default=10)
    args = parser.parse_args()
    command = Path(sys.executable).parent / "rs-studio"
    with tempfile.TemporaryDirectory() as temporary:
        workspace = args.workspace or Path(temporary) / "workspace"
        first_frame_seconds(command, workspace)
        times = sorted(first_frame_seconds(command, workspace) for _ in range(args.starts))
    result = {"median_seconds": statistics.median(times), "slowest_seconds": times[-1], "starts": len(times)}
    print(json.dumps(result | {"load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
