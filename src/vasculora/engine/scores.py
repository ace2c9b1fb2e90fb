"""What an evaluation found: the scores of every case, and what they come to together.

A case is scored at the model's own threshold, as a user of `predict` sees it. Beside that stand the
same answer at 0.5, its Dice at every threshold of the sweep, and the mask the model gives when the
trained answer is put into its mouth: a gap between those says where a weak score comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vasculora.metrics.calibration import Reliability
from vasculora.metrics.mask import SWEEP
from vasculora.metrics.panel import COUNT_METRICS

_DEAF = 0.05
"""Share of the truth's own difference between phrases below which masks do not heed them."""


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """The scores of one case, at its own size and inside its field of view.

    Attributes:
        case_id: Name of the case; of an image with several phrases, with the phrase behind it.
        group: Patient, eye or run.
        scores: Value of each metric by its key in `METRICS`; None where it is undefined.
        seg_found: Whether the model said `[SEG]`, if not, its mask is empty; None for masks that
            no model was asked for.
        absent: Whether the true mask is empty: what was asked for is not there.
        empty: Whether the predicted mask is empty.
        mean_prob: Mean probability: tells whether a prediction has moved where its scores have not.
        at_half: Scores of counts at threshold 0.5; None where there are no probabilities.
        forced: Scores of counts of the mask under the trained answer; None where not asked for.
        as_trained: Whether the answer was word for word the trained one; None where not looked at.
        sweep: Dice at each threshold of `SWEEP`; none where there are no probabilities.
        reliability: How often what was said with a probability is true; None without any.
    """

    case_id: str
    group: str
    scores: Mapping[str, float | None]
    seg_found: bool | None = True
    absent: bool = False
    empty: bool = False
    mean_prob: float = 0.0
    at_half: Mapping[str, float] | None = None
    forced: Mapping[str, float] | None = None
    as_trained: bool | None = None
    sweep: tuple[float, ...] = ()
    reliability: Reliability | None = None

    @property
    def dice(self) -> float:
        """Overlap with the truth, by which cases are ranked."""
        dice = self.scores["dice"]
        assert dice is not None, "Dice is defined for every case"
        return dice


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All cases of an evaluation.

    Attributes:
        cases: Their scores.
        prompt_sensitivity: How far masks move from phrase to phrase on one image, in [0, 1]; None
            where no image has two phrases.
        truth_sensitivity: The same of the true masks.
    """

    cases: tuple[CaseScore, ...]
    prompt_sensitivity: float | None = None
    truth_sensitivity: float | None = None

    @property
    def is_deaf(self) -> bool:
        """Whether the phrases of an image get the same mask although they mean different ones."""
        if self.prompt_sensitivity is None or self.truth_sensitivity is None:
            return False
        return self.prompt_sensitivity < _DEAF * self.truth_sensitivity

    @property
    def seg_rate(self) -> float:
        """Share of answers with `[SEG]`; 1 for masks that no model was asked for."""
        return sum(case.seg_found is not False for case in self.cases) / len(self.cases)

    @property
    def mean_probs(self) -> tuple[float, ...]:
        """Mean probability of each case."""
        return tuple(case.mean_prob for case in self.cases)

    @property
    def false_mask_rate(self) -> float | None:
        """Share of absent targets that got a mask; None where nothing is absent."""
        invented = [not case.empty for case in self.cases if case.absent]
        return sum(invented) / len(invented) if invented else None

    def values(self, metric: str) -> list[float | None]:
        """Return one metric of every case."""
        return [case.scores[metric] for case in self.cases]

    def mean(self) -> dict[str, float | None]:
        """Return the mean of each metric over the cases that it is defined for; None where none."""
        return {name: _mean(self.values(name)) for name in self.cases[0].scores}

    def mean_counted(self) -> dict[str, float]:
        """Return the means of the scores of counts, which are defined for every case."""
        counted = {name: mean for name, mean in self.mean().items() if name in COUNT_METRICS}
        return {name: mean for name, mean in counted.items() if mean is not None}

    def mean_at_half(self) -> dict[str, float] | None:
        """Return the means at threshold 0.5; None where there are no probabilities."""
        return _mean_of([case.at_half for case in self.cases])

    def mean_forced(self) -> dict[str, float] | None:
        """Return the means under the trained answer; None where not asked for."""
        return _mean_of([case.forced for case in self.cases])

    def mean_sweep(self) -> list[float] | None:
        """Return the mean Dice at each threshold of `SWEEP`; None without probabilities."""
        if not all(case.sweep for case in self.cases):
            return None
        means: list[float] = np.mean([case.sweep for case in self.cases], axis=0).tolist()
        return means

    def best_threshold(self) -> float:
        """Return the threshold with the highest mean Dice; of equals the one nearest to 0.5."""
        sweep = self.mean_sweep()
        assert sweep is not None, "hard masks have no threshold"
        return max(zip(sweep, SWEEP, strict=True), key=lambda pair: (pair[0], -abs(pair[1] - 0.5)))[
            1
        ]

    def reliability(self) -> Reliability | None:
        """Return how well probabilities can be believed, over all pixels of all cases."""
        total: Reliability | None = None
        for case in self.cases:
            if case.reliability is not None:
                total = case.reliability if total is None else total + case.reliability
        return total

    def ranked(self) -> tuple[CaseScore, ...]:
        """Return the cases by falling Dice."""
        return tuple(sorted(self.cases, key=lambda case: (-case.dice, case.case_id)))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_of(rows: list[Mapping[str, float] | None]) -> dict[str, float] | None:
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return None
    return {name: sum(row[name] for row in known) / len(known) for name in COUNT_METRICS}
