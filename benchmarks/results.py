"""What every benchmark leaves: a dated file with hardware and commit in its name."""

import json
import subprocess
from datetime import date
from pathlib import Path


def write_result(program: str, label: str, content: object, *, suffix: str = "") -> None:
    """Write a result to `results/<date>_<label>_<commit><suffix>.json` beside its program.

    Args:
        program: `__file__` of the benchmark.
        label: Hardware.
        content: What JSON can hold, and paths.
        suffix: What tells two results of one commit apart.
    """
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    path = Path(program).parent / "results" / f"{date.today()}_{label}_{commit}{suffix}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
