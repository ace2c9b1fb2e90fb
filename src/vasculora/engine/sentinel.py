"""Watches a training for what cannot learn: weights, rates and scores that stand still.

The audit proves before a run that it can learn; the sentinel sees during the run that it does. It
compares checksums of the weights' bits, not samples of them: exact, without a copy, and rare enough
(the first steps, then twice as far apart, then every 64th) to cost nothing. A group that seems to
stand still is looked at after every step until it has moved or the verdict is in, so a step on a
batch that does not reach it is no alarm. Steps whose learning rate is next to nothing beside its
peak prove nothing either way: at the end of a cosine, float32 itself stops weights and scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from vasculora.core.errors import CannotLearnError
from vasculora.engine.scores import Evaluation
from vasculora.engine.standstill import (
    EpochMark,
    explain_standstill,
    is_perfect,
    is_setting_out,
    same_scores,
)

Groups = Mapping[str, Mapping[str, Parameter]]

PATIENCE_STEPS = 3
"""Steps in a row that a group may stand still."""
PATIENCE_RATE = 5
"""Steps in a row that may be made at a learning rate of zero."""
PATIENCE_EPOCHS = 3
"""Epochs in a row in which every score of every case is the same number."""
PATIENCE_FROM_ZERO = 5
"""The same while nothing has been found yet and the prediction moves: a weak base starts so."""
LOOK_EVERY = 64
"""Steps between two looks at the weights, once the first have shown that they move."""
STEP_SHARE = 1e-3
"""Share of its highest learning rate above which a step must move weights."""
EPOCH_SHARE = 0.1
"""Share of the highest learning rate above which an epoch must move some score."""
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class Sentinel:
    """Tells, or stops, a training that stands still.

    Call `begin_epoch`, then `after_step` between the optimizer's step and `zero_grad`, and
    `after_epoch` with the epoch's scores.

    Attributes:
        groups: Weights that should learn, by group and name.
        optimizer: What should move them.
        warn: Where a fault is told in the mode `warn`.
        mode: `stop` raises at the first fault; `warn` tells each one once.
        sensitivity: Measures how far masks change from one sentence to another (0: not at all).
    """

    groups: Groups
    optimizer: Optimizer
    warn: Callable[[str], None]
    mode: Literal["stop", "warn"] = "stop"
    sensitivity: Callable[[], float] | None = None
    _step: int = field(default=0, init=False)
    _sums: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False)
    _still: dict[str, int] = field(default_factory=dict, init=False)
    _zero_rates: int = field(default=0, init=False)
    _peaks: list[float] = field(default_factory=list, init=False)
    _epoch_share: float = field(default=0.0, init=False)
    _marks: list[EpochMark] = field(default_factory=list, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def begin_epoch(self) -> None:
        """Remember the weights as they are: whatever changed them since was no step."""
        self._sums = checksums(self.groups)
        self._epoch_share = 0.0

    def after_step(self) -> None:
        """Look at the learning rate, and now and then at the weights.

        Raises:
            CannotLearnError: In the mode `stop`, if the rate is stuck at zero or a group does not
                move.
        """
        self._step += 1
        self._look_at_rates()
        if self._is_time_to_look():
            self._look_at_weights()

    def after_epoch(self, evaluation: Evaluation) -> None:
        """Compare an epoch's scores with those of the epochs before.

        Raises:
            CannotLearnError: In the mode `stop`, if they have been the same numbers too often.
        """
        if self._epoch_share < EPOCH_SHARE or is_perfect(evaluation):
            self._marks = []
            return
        if self._marks and not same_scores(self._marks[-1].evaluation, evaluation):
            self._marks = []
        self._marks.append(EpochMark(evaluation, checksums(self.groups)))
        patience = PATIENCE_FROM_ZERO if is_setting_out(self._marks) else PATIENCE_EPOCHS
        if len(self._marks) >= patience:
            fault = explain_standstill(self._marks, self.sensitivity)
            self._marks = []
            self.complain(fault)

    def complain(self, fault: str) -> None:
        """Stop the run with a fault, or tell it once.

        Raises:
            CannotLearnError: In the mode `stop`.
        """
        if self.mode == "stop":
            raise CannotLearnError(fault)
        if fault not in self._told:
            self._told.add(fault)
            self.warn(fault)

    def _look_at_rates(self) -> None:
        shares = [self._share(index) for index in range(len(self.optimizer.param_groups))]
        highest = max(shares)
        self._epoch_share = max(self._epoch_share, highest)
        self._zero_rates = 0 if highest > 0 else self._zero_rates + 1
        if self._zero_rates == PATIENCE_RATE:
            self.complain(
                f"the learning rate has been zero for {PATIENCE_RATE} optimizer steps in a row (up "
                f"to step {self._step}), where one at most is expected, so no weight can move. "
                "Raise optim.lr, or check how many steps its schedule is made for."
            )

    def _share(self, index: int) -> float:
        """Return the learning rate of one of the optimizer's groups as a share of its highest."""
        own = self.optimizer.param_groups[index]
        rate = float(own["lr"])
        if index == len(self._peaks):
            self._peaks.append(float(own.get("initial_lr", rate)))
        self._peaks[index] = max(self._peaks[index], rate)
        return rate / self._peaks[index] if rate > 0 else 0.0

    def _is_time_to_look(self) -> bool:
        step = self._step
        if step <= PATIENCE_STEPS or step % LOOK_EVERY == 0:
            return True
        doubled = step < LOOK_EVERY and step & (step - 1) == 0
        return doubled or any(0 < still < PATIENCE_STEPS for still in self._still.values())

    def _look_at_weights(self) -> None:
        sums = checksums(self.groups)
        shares = self._shares_by_weight()
        highest = max(shares.values())  # for weights that the optimizer does not hold
        for name, params in self.groups.items():
            if sums[name] != self._sums[name]:
                self._still[name] = 0
            elif max(shares.get(id(p), highest) for p in params.values()) > STEP_SHARE:
                self._still[name] = self._still.get(name, 0) + 1
                if self._still[name] == PATIENCE_STEPS:
                    self.complain(self._explain_still(name, set(shares)))
        self._sums = sums

    def _shares_by_weight(self) -> dict[int, float]:
        return {
            id(param): self._share(index)
            for index, group in enumerate(self.optimizer.param_groups)
            for param in group["params"]
        }

    def _explain_still(self, name: str, held: set[int]) -> str:
        """Return why a group stands still, and the cure.

        Args:
            name: The group.
            held: Ids of the weights that the optimizer holds.
        """
        params = list(self.groups[name].values())
        total = sum(param.numel() for param in params)
        seen = (
            f"{name}: after {self._step} optimizer steps none of its {total:,} weights has moved "
            f"in the last {PATIENCE_STEPS}, though their learning rate is above zero."
        )
        if not any(param.requires_grad for param in params):
            return f"{seen} They are frozen by now. Freeze nothing after the optimizer is made."
        if not any(id(param) in held for param in params):
            return (
                f"{seen} The optimizer holds other tensors: they were not handed to it, or were "
                "replaced since. Attach, load and move the model first, then make the optimizer."
            )
        if not any(param.grad is not None and bool(param.grad.any()) for param in params):
            return (
                f"{seen} No gradient reaches them. `vasculora audit` names the line that cuts it; "
                "if the loss needs no such group, take it out of lora.trainable."
            )
        return (
            f"{seen} They have a gradient, but a step is too small to change a number of "
            f"{_formats(params)}, or is not carried out. Raise optim.lr."
        )


def checksums(groups: Groups) -> dict[str, tuple[int, ...]]:
    """Return, for each group, a checksum of the bits of each of its tensors."""
    with torch.no_grad():
        sums = {name: [_bit_sum(param) for param in own.values()] for name, own in groups.items()}
        return {
            name: tuple(torch.stack([one.to(own[0].device) for one in own]).tolist())
            for name, own in sums.items()
        }


def _bit_sum(param: Tensor) -> Tensor:
    """Return the sum of a tensor's entries, read as whole numbers, however they overflow."""
    bits = param.detach().view(_BITS[param.element_size()])
    return bits.sum(dtype=bits.dtype).long()


def _formats(params: list[Parameter]) -> str:
    return ", ".join(sorted({str(param.dtype).removeprefix("torch.") for param in params}))
