"""The sentinel of a fine-tuning run, made from its settings, data and model."""

from collections.abc import Callable

from torch.optim import Optimizer

from vasculora.core.runtime import autocast
from vasculora.data.dataset import VesselDataset
from vasculora.engine.sentinel import Sentinel
from vasculora.model.groups import trainable_groups
from vasculora.model.pretrained import OpenedModel
from vasculora.model.sensitivity import measure_sensitivity
from vasculora.recipes.audit import ask_twice
from vasculora.recipes.config import FinetuneConfig


def build_sentinel(
    config: FinetuneConfig,
    opened: OpenedModel,
    data: VesselDataset,
    optimizer: Optimizer,
    *,
    warn: Callable[[str], None],
) -> Sentinel | None:
    """Return what watches a run; None where the settings ask not to look.

    Args:
        config: The run's settings.
        opened: The model, with what learns already attached.
        data: Images on which the sentence is tried, should scores stand still.
        optimizer: What moves the weights.
        warn: Where a fault is told, if it shall not stop the run.
    """
    if config.sentinel == "off":
        return None
    return Sentinel(
        groups=trainable_groups(opened.model),
        optimizer=optimizer,
        warn=warn,
        mode=config.sentinel,
        sensitivity=lambda: sentence_effect(opened, data),
    )


def sentence_effect(opened: OpenedModel, data: VesselDataset) -> float:
    """Return how far masks change from an image's own phrase to another, as a share of themselves.

    Args:
        opened: The model.
        data: Images with their phrases; the first few are asked.
    """
    asked, other = ask_twice(opened, data)
    with autocast(opened.model.device):
        return measure_sensitivity(opened.model, asked, other).other_logits
