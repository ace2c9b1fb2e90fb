"""What tests of whole programs share: settings of a tiny run, and a report that remembers."""

from contextlib import contextmanager

import numpy as np
import pytest

from vasculora.core.io import read_json, write_image
from vasculora.metrics.panel import COUNT_METRICS, METRICS
from vasculora.recipes.config import finetune_settings
from vasculora.recipes.finetune import finetune


class Recorder:
    """A `Report` that keeps what is said, and can pull the plug in mid-epoch."""

    def __init__(self, *, stop_in=None, after=0):
        self.lines, self.notes, self.warnings, self.tables, self.counts = [], [], [], [], {}
        self.stop_in, self.after, self.leave_at = stop_in, after, None

    def note(self, text):
        self.notes.append(text)
        if self.leave_at is not None and text.startswith(self.leave_at):
            raise KeyboardInterrupt

    def warn(self, text):
        self.warnings.append(text)

    def line(self, text):
        self.lines.append(text)

    def table(self, title, columns, rows):
        self.tables.append((title, tuple(columns), [tuple(row) for row in rows]))

    @contextmanager
    def progress(self, total, description, unit="images"):
        count = Count(self, description)
        yield count
        self.counts[description] = (count.done, total)


class Count:
    def __init__(self, recorder, description):
        self.recorder, self.description, self.done = recorder, description, 0

    def advance(self, count=1):
        self.done += count
        if self.description == self.recorder.stop_in and self.done > self.recorder.after:
            raise KeyboardInterrupt

    def detail(self, text):
        pass


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture(scope="session")
def new_recorder():
    return Recorder


@pytest.fixture(scope="session")
def train():
    """Fine-tune up to the last epoch and return the scores; report and pictures cost as much."""

    def run(config, out, *, report, resume=False):
        report.leave_at = "Best epoch: "  # what is told once everything is learnt and saved
        with pytest.raises(KeyboardInterrupt):
            finetune(config, out, report=report, resume=resume)
        report.leave_at = None
        scores = read_json(out / "metrics.json")
        assert len(scores["epochs"]) == config.trainer.epochs
        return scores

    return run


@pytest.fixture(scope="session")
def tiny_settings(tiny_base, disc_dir):
    """Make the settings of a run of seconds; more by dotted key."""

    def make(preset=None, resumed=None, **values):
        flags = {"model": str(tiny_base), "data.path": str(disc_dir), "trainer.epochs": 2}
        flags |= {key.replace("__", "."): value for key, value in values.items()}
        return finetune_settings(
            config_path=None, preset=preset, overrides=(), values=flags, resumed=resumed
        )

    return make


@pytest.fixture(scope="session")
def disc_dir(tmp_path_factory):
    """Ten images of 64 pixels with one large bright disc: even the tiny base can learn them."""
    data = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for number in range(10):
        y, x, radius = rng.uniform(22, 42), rng.uniform(22, 42), rng.uniform(14, 20)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        pixels = np.where(inside, 210, 40) + rng.integers(-20, 20, (64, 64))
        write_image(data / "images" / f"{number}.png", pixels.astype(np.uint8))
        write_image(data / "masks" / f"{number}.png", inside.astype(np.uint8) * 255)
    return data


@pytest.fixture(scope="session")
def make_card():
    """Make what evaluation.json holds of 32 cases of 16 groups; other keys and cases by name."""

    def make(num=32, case_id="case {}", **changed):
        score = dict.fromkeys(METRICS, 0.5) | {"dice": 0.83, "hd95": 12.34, "hd95_mm": None}
        spread = {"low": 0.8, "high": 0.84, "num_cases": num, "num_groups": num // 2}
        cases = [
            {"case_id": case_id.format(n), "group": f"g{n % (num // 2)}", "seg_found": True}
            | {"absent": False, **score, "dice": 0.5 + n / 100}
            | {"dice_at_half": 0.823, "dice_teacher_forced": 0.83}
            for n in range(num)
        ]
        groups = [
            {"group": f"g{n}", "num_cases": 2, "mean": score | {"dice": n / 100}}
            for n in range(num // 2)
        ]
        card = {
            "model": "runs/first",
            "against": None,
            "data": "angiograms",
            "split": "val",
            "num_cases": num,
            "num_groups": num // 2,
            "threshold": 0.45,
            "options": {"tta": "none", "min_size": 0, "hysteresis": None},
            "seg_rate": 1.0,
            "num_absent": 0,
            "false_mask_rate": None,
            "prompt_sensitivity": None,
            "truth_sensitivity": None,
            "is_deaf": False,
            "num_trained_on": 0,
            "mean": score,
            "num_defined": dict.fromkeys(METRICS, num) | {"hd95": num - 1},
            "interval": {name: spread | {"mean": score[name]} for name in METRICS},
            "at_half": dict.fromkeys(COUNT_METRICS, 0.5) | {"dice": 0.823},
            "teacher_forced": {"num_other_answers": 0, "mean": dict.fromkeys(COUNT_METRICS, 0.83)},
            "sweep": {"thresholds": [0.4, 0.45, 0.5], "dice": [0.8, 0.83, 0.823], "best": 0.45},
            "reliability": {"ece": 0.03, "bins": [_BIN, _BIN | {"count": 0}]},
            "comparisons": [],
            "groups": groups,
            "cases": cases,
        }
        return card | changed

    return make


_BIN = {"low": 0.0, "high": 0.5, "count": 9, "confidence": 0.2, "frequency": 0.3}
