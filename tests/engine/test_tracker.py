import json
from dataclasses import dataclass, field, replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vasculora.core.report import Silent
from vasculora.engine.scores import CaseScore, Evaluation
from vasculora.engine.tracker import Tracker
from vasculora.engine.trainer import EpochStats
from vasculora.metrics.mask import SWEEP


@dataclass(frozen=True)
class Lines(Silent):
    """A report that keeps the log's lines."""

    lines: list[str] = field(default_factory=list)

    def line(self, text):
        self.lines.append(text)


def evaluation(dice, sensitivity=0.5, seg_found=(True, True)):
    return Evaluation(
        cases=tuple(
            CaseScore(
                case_id=str(index),
                group=str(index),
                scores={
                    "dice": dice,
                    "iou": dice / 2,
                    "sensitivity": sensitivity,
                    "precision": 0.5,
                },
                seg_found=found,
                sweep=(dice,) * len(SWEEP),
            )
            for index, found in enumerate(seg_found)
        ),
    )


def log_epoch(tracker, epoch, evaluation):
    """Keep and tell an epoch, as a run does, and return whether it is the best."""
    is_best = tracker.add_epoch(epoch, STATS, evaluation)
    tracker.tell_epoch()
    return is_best


STATS = EpochStats(loss=0.31494, dice=0.74156, num_images=30, seconds=12.0)


@pytest.fixture
def tracker(tmp_path):
    return Tracker(run_dir=tmp_path, report=Lines(), num_epochs=15)


def test_log_lines_have_exactly_the_promised_form(tracker):
    tracker.log_baseline(evaluation(0.7342))
    log_epoch(tracker, 1, evaluation(0.73421, 0.73269))
    assert tracker.report.lines == [
        "Baseline - Dice: 0.7342",
        "Epoch 1/15",
        "  Train - Loss: 0.3149, Dice: 0.7416",
        "  Val   - Dice: 0.7342, Recall: 0.7327",
    ]
    assert not any("error" in line.lower() for line in tracker.report.lines)


def test_answers_without_seg_are_told(tracker):
    log_epoch(tracker, 1, evaluation(0.5, seg_found=(True, True, False)))
    assert tracker.report.lines[-1] == "  Answers with [SEG]: 66.7%"


def test_the_ear_for_phrases_is_told_where_images_have_several(tracker):
    heard = replace(evaluation(0.5), prompt_sensitivity=0.0123, truth_sensitivity=0.98)
    log_epoch(tracker, 1, heard)
    assert tracker.report.lines[-1] == "  Prompt sensitivity: 0.012 (the true masks': 0.980)"
    assert tracker.epochs[0]["val_prompt_sensitivity"] == 0.0123


def test_the_best_epoch_is_the_first_of_equals(tracker):
    verdicts = [
        log_epoch(tracker, epoch, evaluation(dice))
        for epoch, dice in enumerate((0.5, 0.7, 0.6, 0.7, 0.8), start=1)
    ]
    assert verdicts == [True, True, False, False, True]
    assert tracker.best == {"epoch": 5, "val_dice": 0.8}


def test_metrics_are_written_after_every_word(tracker, tmp_path):
    tracker.log_baseline(evaluation(0.4, 0.3, seg_found=(True, False)))
    written = json.loads((tmp_path / "metrics.json").read_text())
    baseline = {"dice": 0.4, "recall": 0.3, "seg_rate": 0.5}
    assert list(written) == ["baseline", "epochs", "best"]
    assert {name: written["baseline"][name] for name in baseline} == baseline
    assert written["baseline"]["cases"][1] == {
        "case_id": "1",
        "group": "1",
        "scores": {"dice": 0.4, "iou": 0.2, "sensitivity": 0.3, "precision": 0.5},
    }
    assert [case.dice for case in tracker.untouched.cases] == [0.4, 0.4]
    log_epoch(tracker, 1, evaluation(0.5, 0.6))
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert tracker.baseline == baseline
    assert written["epochs"] == [
        {
            "epoch": 1,
            "train_loss": 0.31494,
            "train_dice": 0.74156,
            "val_dice": 0.5,
            "val_recall": 0.6,
            "val_seg_rate": 1.0,
            "val_best_threshold": 0.5,
            "seconds": 12.0,
            "images_per_second": 2.5,
        }
    ]
    assert written["best"] == {"epoch": 1, "val_dice": 0.5}


def test_an_epoch_is_kept_before_it_is_told(tracker, tmp_path):
    assert tracker.add_epoch(1, STATS, evaluation(0.5))
    assert tracker.report.lines == []
    assert not (tmp_path / "metrics.json").exists()
    kept = json.loads(json.dumps(tracker.metrics))
    resumed = Tracker(run_dir=tmp_path, report=Lines(), num_epochs=15)
    resumed.restore(kept)
    assert json.loads((tmp_path / "metrics.json").read_text()) == kept
    assert resumed.best == {"epoch": 1, "val_dice": 0.5}


def test_curves_are_drawn_and_a_resumed_run_goes_on(tracker, tmp_path):
    for epoch in (1, 2):
        log_epoch(tracker, epoch, evaluation(0.1 * epoch))
    resumed = Tracker(run_dir=tmp_path, report=Lines(), num_epochs=15)
    resumed.restore(json.loads(json.dumps(tracker.metrics)))
    log_epoch(resumed, 3, evaluation(0.3))
    assert [row["epoch"] for row in resumed.epochs] == [1, 2, 3]
    assert resumed.best["epoch"] == 3
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert "val/dice" in events.Tags()["scalars"]
    curve = [(event.step, event.value) for event in events.Scalars("val/dice")]
    assert curve == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2)), (3, pytest.approx(0.3))]
