"""Why a validation score is the same number epoch after epoch, told apart by what did move.

Scores that are equal to the last bit in every case are no plateau: in a run that learns, some pixel
of some case flips. What stands still upstream is to blame: the weights, then the answer's `[SEG]`,
then the mask's ear for the sentence, then the evaluated model, and last the threshold or the truth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vasculora.engine.scores import CaseScore, Evaluation

SLIGHT = 1e-4
"""Change of a mean probability below which the sentence is asked about: a mask that no longer
listens moves in its last bits alone."""
DEAF = 5e-3
"""Change of the masks from one sentence to another, as a share, below which they ignore the text:
0.03 and more where they listen."""
_OVERLAP = ("dice", "iou", "sensitivity", "precision")


@dataclass(frozen=True)
class EpochMark:
    """What an epoch leaves to be compared.

    Attributes:
        evaluation: Its scores, with the mean probability of each case.
        weights: A checksum of each tensor that learns, by group.
    """

    evaluation: Evaluation
    weights: Mapping[str, tuple[int, ...]]


def same_scores(one: Evaluation, other: Evaluation) -> bool:
    """Return whether every score of overlap of every case is the same number."""
    return _overlaps(one) == _overlaps(other)


def _overlaps(evaluation: Evaluation) -> list[tuple[object, ...]]:
    # Without specificity, which moves with every invented pixel while no vessel is found at all.
    return [
        (case.seg_found, *(case.scores[name] for name in _OVERLAP)) for case in evaluation.cases
    ]


def is_perfect(evaluation: Evaluation) -> bool:
    """Return whether no score can rise."""
    return all(case.dice == 1 for case in evaluation.cases)


def is_setting_out(marks: Sequence[EpochMark]) -> bool:
    """Return whether no case has been found at all yet, while the prediction moves."""
    cases = marks[-1].evaluation.cases
    return all(case.dice == 0 for case in cases) and _shift(marks) > 0


def explain_standstill(marks: Sequence[EpochMark], sensitivity: Callable[[], float] | None) -> str:
    """Return what was expected and seen, what stands still, and the cure.

    Args:
        marks: Epochs with the same scores, the earliest first.
        sensitivity: Measures how far masks change from one sentence to another (0: not at all);
            called only where the answer matters.
    """
    evaluation = marks[-1].evaluation
    dice = evaluation.mean_counted()["dice"]
    seen = (
        f"the validation scores of all {len(evaluation.cases)} cases have been the same numbers "
        f"for {len(marks)} epochs in a row (mean Dice {dice:.4f}); while a "
        "run learns, some of them change in some decimal."
    )
    return f"{seen} {_cause(marks, sensitivity)}"


def _cause(marks: Sequence[EpochMark], sensitivity: Callable[[], float] | None) -> str:
    first, last = marks[0], marks[-1]
    moved = [name for name in last.weights if last.weights[name] != first.weights[name]]
    if not moved:
        return _WEIGHTS.format(groups=", ".join(last.weights), num_epochs=len(marks))
    names = ", ".join(moved)
    if last.evaluation.seg_rate == 0:
        return _NO_SEG.format(groups=names)
    shift = _shift(marks)
    if sensitivity is not None and shift < SLIGHT:
        value = sensitivity()
        if value < DEAF:
            return _IGNORED.format(groups=names, value=value)
    if shift == 0:
        return _UNUSED.format(groups=names, num_cases=len(last.evaluation.cases))
    hint = _hint(last.evaluation.cases, shift)
    return _SCORE.format(groups=names, shift=shift, hint=hint)


def _shift(marks: Sequence[EpochMark]) -> float:
    """Return the largest change of a case's mean probability from one epoch to another."""
    by_case = zip(*(mark.evaluation.mean_probs for mark in marks), strict=True)
    shifts: list[float] = [max(probs) - min(probs) for probs in by_case]
    return max(shifts)


def _hint(cases: Sequence[CaseScore], shift: float) -> str:
    """Return what the scores themselves say about why they cannot move."""
    if shift < SLIGHT:
        return (
            "No pixel crosses the threshold, so little does it move. Raise optim.lr, or try "
            "`vasculora evaluate` with `--set threshold=0.3`."
        )
    if all(case.scores["sensitivity"] == 0 for case in cases):
        return (
            "Not one pixel of a mask is found: the threshold is too high, or the masks belong to "
            "other images or show something else. Try `vasculora evaluate` with `--set "
            "threshold=0.1`, and compare masks with images."
        )
    if all(case.scores["sensitivity"] == 1 for case in cases):
        return (
            "Every pixel of every mask is found, and the rest with it: the threshold is too low, "
            "or the masks cover next to nothing. Try `vasculora evaluate` with `--set "
            "threshold=0.9`, and compare masks with images."
        )
    return (
        "No pixel crosses the threshold. Try `vasculora evaluate` with `--set threshold=0.3`, and "
        "check that the masks belong to these images."
    )


_WEIGHTS = (
    "Weights do not move: those of {groups} are, bit for bit, what they were {num_epochs} epochs "
    "ago. Raise optim.lr, hand the optimizer the weights of this very model, and let `vasculora "
    "audit` name the line that cuts their gradient."
)
_NO_SEG = (
    "Weights move ({groups}), but no answer holds [SEG], so every mask is empty. Raise "
    "objective.text, or lower optim.lr."
)
_IGNORED = (
    "Weights move ({groups}), but the mask ignores the text: another sentence changes it by a "
    "share of {value:.1g} only. Choose a base that listens to its prompt, or let mask_decoder or "
    "grounding_lora learn too (lora.trainable)."
)
_UNUSED = (
    "Weights move ({groups}), but the prediction does not use them: the probabilities of all "
    "{num_cases} cases are the same to the last bit. The adapter is disabled, or a stale copy of "
    "the model is evaluated. Evaluate the very model that the optimizer moves, with its adapter "
    "enabled (model.enable_adapter_layers())."
)
_SCORE = (
    "Weights move ({groups}) and the prediction moves (mean probability of a case by up to "
    "{shift:.1g}), but the score cannot. {hint}"
)
