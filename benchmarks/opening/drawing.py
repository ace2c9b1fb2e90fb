"""What it costs to draw the numbers that a model would start from, where files hold its weights.

The bundled base is opened in turn as it is (`weightless`) and with the drawing left in, in one
process. Prints the median and range of both, in seconds, and their ratio.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from accelerate import init_empty_weights

from vasculora.model import sa2va
from vasculora.model.pretrained import open_model
from vasculora.model.weights.placing import weightless

WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "drawn and thrown away": init_empty_weights,
    "not drawn": weightless,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--repeats", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    open_model(args.model)  # imports and caches
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(args.repeats):
        for way, own in seconds.items():
            own.append(opening(args.model, WAYS[way]))
    for way, own in seconds.items():
        print(f"{way}: {statistics.median(own):.3f} ({min(own):.3f} to {max(own):.3f})")
    before, now = (statistics.median(own) for own in seconds.values())
    print(f"ratio: {now / before:.2f}")


def opening(model: str, way: Callable[[], AbstractContextManager[None]]) -> float:
    """Return the seconds that opening a model takes."""
    with patch.object(sa2va, "weightless", way):
        start = time.perf_counter()
        open_model(model)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
