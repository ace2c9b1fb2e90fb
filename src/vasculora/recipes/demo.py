"""The main job in minutes: draw angiograms, fine-tune the bundled base, show what it learnt.

The style is one the base has never seen. The demo is also a gate: it fails where the fine-tuned
model does not clear the bars below, so that a build in which learning is broken cannot pass.
"""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vasculora.core.config import Seed
from vasculora.core.io import read_json, write_json, write_text
from vasculora.core.report import Report
from vasculora.data.dataset import VesselDataset
from vasculora.data.sources import read_source
from vasculora.data.splits import Part, read_split, select
from vasculora.metrics.mask import best_threshold
from vasculora.metrics.panel import score_case
from vasculora.model.frangi import frangi_prob
from vasculora.model.predictor import Predictor
from vasculora.model.prompts import PromptConfig
from vasculora.recipes.config import FinetuneConfig, finetune_settings
from vasculora.recipes.data import synthesise
from vasculora.recipes.evaluate import score
from vasculora.recipes.finetune import finetune
from vasculora.recipes.reporting.report import REPORT_NAME
from vasculora.recipes.reporting.scorecard import EVALUATION_NAME
from vasculora.recipes.run_folder import REPORT_DIR, RUN_NAMES, SPLIT_NAME

RESULT_NAME = "demo.json"
DATA_NAME = "data"
MARK_NAME = ".vasculora-demo"
"""Its first file: what carries it may be replaced by the next demo, however far this one came."""
COMMAND = ("vasculora", "demo")
_SHOWN = ("dice", "iou", "sensitivity", "precision")
LEAST_DICE = 0.80
LEAST_GAIN = 0.08
LEAST_LEAD = 0.10
"""Bars: Val Dice, its gain over the untouched base, and its lead over the Frangi filter."""


class DemoConfig(BaseModel):
    """Settings of `vasculora demo`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "nano"
    """`nano`, a base model's folder or a run's folder."""
    num: int = Field(default=240, ge=10)
    """Drawn images; four fifths are learnt from."""
    epochs: int = Field(default=4, ge=3)
    """Passes over them."""
    seed: Seed = 2025
    """Seed of the drawings, the split and the training."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo came to: mean validation scores of three ways to segment, and minutes.

    Attributes:
        base: The untouched base.
        frangi: A Frangi filter with its best threshold on the training images.
        finetuned: The fine-tuned model's best epoch.
        training_minutes: Time from the untouched model's score to the last picture.
    """

    base: dict[str, float]
    frangi: dict[str, float]
    finetuned: dict[str, float]
    training_minutes: float

    def failures(self) -> list[str]:
        """Return the bars that were not cleared, in words."""
        dice = self.finetuned["dice"]
        bars = {
            f"Dice at least {LEAST_DICE:.2f}": dice >= LEAST_DICE,
            f"{LEAST_GAIN:.2f} above the base": dice >= self.base["dice"] + LEAST_GAIN,
            f"{LEAST_LEAD:.2f} above Frangi": dice >= self.frangi["dice"] + LEAST_LEAD,
        }
        return [bar for bar, cleared in bars.items() if not cleared]


def demo(config: DemoConfig, out: Path, *, report: Report) -> DemoResult:
    """Run the demo into the folder `out` and return what it came to.

    Args:
        config: All settings.
        out: A new or empty folder, or the one of an earlier demo, which is replaced.
        report: Where progress goes.

    Raises:
        ValueError: If there is something else in the folder.
    """
    _clear_earlier(out)
    write_text(out / MARK_NAME, "vasculora demo may replace what it left here.\n")
    data_dir = out / DATA_NAME
    synthesise(data_dir, style="xray", num=config.num, size=256, seed=config.seed, report=report)
    settings = _settings(config, data_dir)
    start = time.perf_counter()
    finetune(settings, out, report=report, command=COMMAND)
    minutes = (time.perf_counter() - start) / 60
    train, val = (_samples(settings, out, part) for part in ("train", "val"))
    result = DemoResult(
        base=_untouched(config.model, val, report),
        frangi=_frangi(train, val, report),
        finetuned=read_json(out / REPORT_DIR / EVALUATION_NAME)["at_half"],
        training_minutes=minutes,
    )
    write_json(out / RESULT_NAME, asdict(result))
    _show(result, out, num_val=len(val), report=report)
    return result


def _clear_earlier(out: Path) -> None:
    """Remove an earlier demo; a folder with anything else in it is left alone and refused."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file, not a folder. Choose another --out.")
    entries = {path.name for path in out.iterdir()}
    strange = sorted(entries - _OWN_NAMES)
    if strange or (entries and MARK_NAME not in entries):
        what = f"{strange[0]}, which no demo makes" if strange else "no earlier demo"
        raise ValueError(
            f"{out} is not empty and holds {what}, so it is left as it is. Choose another --out."
        )
    shutil.rmtree(out)


_OWN_NAMES = {MARK_NAME, DATA_NAME, RESULT_NAME, *RUN_NAMES}


def _settings(config: DemoConfig, data_dir: Path) -> FinetuneConfig:
    return finetune_settings(
        config_path=None,
        preset=None,
        overrides=(),
        values={
            "model": config.model,
            "data.path": str(data_dir),
            "trainer.epochs": config.epochs,
            "data.stratify": False,  # the README's figures are those of this split
            "data.augment": "none",  # drawings are as many as one likes; variation would blur them
            "target": "full",
            "seed": config.seed,
        },
    )


def _samples(settings: FinetuneConfig, out: Path, part: Part) -> VesselDataset:
    records = read_source(settings.data.path).records
    chosen = select(records, read_split(out / SPLIT_NAME), part)
    return VesselDataset(chosen, phrase=PromptConfig().phrase)


def _untouched(model: str, val: VesselDataset, report: Report) -> dict[str, float]:
    predictor = Predictor.from_pretrained(model)
    return score(
        predictor, val, batch_size=8, report=report, title="Untouched model"
    ).mean_counted()


def _frangi(train: VesselDataset, val: VesselDataset, report: Report) -> dict[str, float]:
    """Return the scores of a Frangi filter whose threshold suits the training images best."""
    with report.progress(len(train) + len(val), "Frangi filter") as bar:

        def respond(data: VesselDataset, index: int) -> np.ndarray:
            bar.advance()
            return frangi_prob(data[index].image, dark=True)

        probs = [respond(train, index) for index in range(len(train))]
        masks = [train[index].masks[0] for index in range(len(train))]
        threshold = best_threshold(probs, masks)
        rows = [
            score_case(respond(val, index) > threshold, val[index].masks[0], names=_SHOWN)
            for index in range(len(val))
        ]
    return {name: float(np.mean([row[name] for row in rows])) for name in _SHOWN}


def _show(result: DemoResult, out: Path, *, num_val: int, report: Report) -> None:
    ways = {
        "untouched base": result.base,
        "Frangi filter": result.frangi,
        "fine-tuned": result.finetuned,
    }
    report.table(
        f"{num_val} validation images of a style the base has never seen",
        ("", "Dice", "IoU", "sensitivity", "precision"),
        [[way, *(f"{mean[name]:.3f}" for name in _SHOWN)] for way, mean in ways.items()],
    )
    report.note(f"Training took {result.training_minutes:.1f} minutes.")
    report.note(f"Report: {out / REPORT_DIR / REPORT_NAME}")
