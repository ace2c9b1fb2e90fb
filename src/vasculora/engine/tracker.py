"""What a run reports while it goes: log lines that grep can read, metrics.json, TensorBoard.

An epoch is first noted and told only when the run has kept it: an epoch that somebody has read of
is never repeated, whenever the run is killed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vasculora.core.io import write_json
from vasculora.core.report import Report
from vasculora.engine.scores import CaseScore, Evaluation
from vasculora.engine.trainer import EpochStats

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS_NAME = "metrics.json"
EVENTS_NAME = "tensorboard"


@dataclass
class Tracker:
    """Keeps a run's scores and tells them.

    Attributes:
        run_dir: Where the run's files are.
        report: Where log lines go.
        num_epochs: Epochs the run will have.
        metrics: What `metrics.json` holds: `baseline`, `epochs`, `best`.
    """

    run_dir: Path
    report: Report
    num_epochs: int
    metrics: dict[str, Any] = field(
        default_factory=lambda: {"baseline": None, "epochs": [], "best": None}
    )
    _events: "SummaryWriter | None" = None

    @property
    def baseline(self) -> dict[str, float]:
        """Mean scores of the untouched model."""
        return {name: self.metrics["baseline"][name] for name in ("dice", "recall", "seg_rate")}

    @property
    def untouched(self) -> Evaluation | None:
        """Every case's scores of counts, of the untouched model at threshold 0.5.

        None of a run that was begun before they were kept.
        """
        rows = self.metrics["baseline"].get("cases")
        if rows is None:
            return None
        return Evaluation(
            cases=tuple(
                CaseScore(case_id=row["case_id"], group=row["group"], scores=row["scores"])
                for row in rows
            )
        )

    @property
    def epochs(self) -> list[dict[str, float]]:
        """One row a finished epoch."""
        return list(self.metrics["epochs"])

    @property
    def best(self) -> dict[str, float]:
        """Epoch and Val Dice of the best epoch so far."""
        return dict(self.metrics["best"])

    def log_baseline(self, evaluation: Evaluation) -> None:
        """Keep and tell the scores of the untouched model."""
        mean = evaluation.mean_counted()
        self.metrics["baseline"] = {
            "dice": mean["dice"],
            "recall": mean["sensitivity"],
            "seg_rate": evaluation.seg_rate,
            "cases": [
                {"case_id": case.case_id, "group": case.group, "scores": dict(case.scores)}
                for case in evaluation.cases
            ],
        }
        self.report.line(f"Baseline - Dice: {mean['dice']:.4f}")
        self._tell_missing_seg(evaluation.seg_rate)
        self._write()

    def add_epoch(self, epoch: int, stats: EpochStats, evaluation: Evaluation) -> bool:
        """Note an epoch's scores, untold as yet; return whether it is the best so far."""
        mean = evaluation.mean_counted()
        row = {
            "epoch": epoch,
            "train_loss": stats.loss,
            "train_dice": stats.dice,
            "val_dice": mean["dice"],
            "val_recall": mean["sensitivity"],
            "val_seg_rate": evaluation.seg_rate,
            "val_best_threshold": evaluation.best_threshold(),
            "seconds": stats.seconds,
            "images_per_second": stats.num_images / stats.seconds,
        }
        heard, meant = evaluation.prompt_sensitivity, evaluation.truth_sensitivity
        if heard is not None and meant is not None:
            row |= {"val_prompt_sensitivity": heard, "val_truth_sensitivity": meant}
        self.metrics["epochs"].append(row)
        best = self.metrics["best"]
        is_best = best is None or row["val_dice"] > best["val_dice"]
        if is_best:
            self.metrics["best"] = {"epoch": epoch, "val_dice": row["val_dice"]}
        return is_best

    def tell_epoch(self) -> None:
        """Write the newest epoch's scores to `metrics.json`, TensorBoard and the log."""
        row = self.metrics["epochs"][-1]
        self._write()
        self._draw(row)
        self.report.line(f"Epoch {row['epoch']}/{self.num_epochs}")
        self.report.line(f"  Train - Loss: {row['train_loss']:.4f}, Dice: {row['train_dice']:.4f}")
        self.report.line(f"  Val   - Dice: {row['val_dice']:.4f}, Recall: {row['val_recall']:.4f}")
        self._tell_missing_seg(row["val_seg_rate"])
        if "val_prompt_sensitivity" in row:
            heard, meant = row["val_prompt_sensitivity"], row["val_truth_sensitivity"]
            self.report.line(f"  Prompt sensitivity: {heard:.3f} (the true masks': {meant:.3f})")

    def restore(self, metrics: dict[str, Any]) -> None:
        """Go on from the scores that a killed run had kept, and write those it could not tell."""
        self.metrics = metrics
        self._write()

    def _tell_missing_seg(self, seg_rate: float) -> None:
        if seg_rate < 1:
            self.report.line(f"  Answers with [SEG]: {seg_rate:.1%}")

    def _write(self) -> None:
        write_json(self.run_dir / METRICS_NAME, self.metrics)

    def _draw(self, row: dict[str, float]) -> None:
        """Append an epoch to the TensorBoard events; a resumed run replaces what it repeats."""
        epoch = int(row["epoch"])
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self._events = SummaryWriter(self.run_dir / EVENTS_NAME, purge_step=epoch)
        for name, value in row.items():
            if name != "epoch":
                self._events.add_scalar(name.replace("_", "/", 1), value, epoch)
        self._events.flush()
