"""What kind of picture a run varies the light of, where the settings leave it open."""

from collections.abc import Sequence

import numpy as np

from vasculora.core.report import Report
from vasculora.core.types import Record
from vasculora.data.dataset import load_sample
from vasculora.data.modality import MODALITIES, Modality, guess_modality
from vasculora.data.transforms import knows_modality
from vasculora.recipes.config import FinetuneConfig

WORDS: dict[Modality, str] = {
    "xray": "X-ray angiograms",
    "fundus": "fundus photographs",
    "octa": "OCTA",
}
"""What each kind of picture is called."""

_MOST_LOOKED_AT = 8


def settle_modality(
    config: FinetuneConfig, records: Sequence[Record], *, phrase: str, report: Report
) -> FinetuneConfig:
    """Return settings with a kind of picture in place of `auto`, and say which.

    It stays `auto` where the level of augmentation does not ask for it, or no picture tells.

    Args:
        config: The run's settings.
        records: What is learnt from, every case found usable.
        phrase: Name of targets for which the data set has none.
        report: Where the guess is told.
    """
    data = config.data
    if data.modality != "auto" or not knows_modality(data.augment):
        return config
    found = look(records, phrase=phrase, setting="--set data.modality=", report=report)
    if found is None:
        return config
    return config.model_copy(update={"data": data.model_copy(update={"modality": found})})


def look(
    records: Sequence[Record], *, phrase: str, setting: str, report: Report
) -> Modality | None:
    """Return what kind of picture a few of the cases are, and say so; None where none tells.

    Args:
        records: The cases; a few are opened, evenly spread.
        phrase: Name of targets for which the data set has none.
        setting: What a user types to say otherwise, up to the kind.
        report: Where it is said.
    """
    num = min(_MOST_LOOKED_AT, len(records))
    spread = np.linspace(0, len(records) - 1, num).round().astype(int).tolist()
    found = guess_modality(
        load_sample(records[index], phrase=phrase, allow_empty=True) for index in spread
    )
    if found is None:
        report.note(
            "Augmentation: the images do not tell whether they are X-ray, fundus or OCTA, so their "
            f"light is left as it is. Say it with {setting}{'|'.join(MODALITIES)}."
        )
    else:
        others = "|".join(kind for kind in MODALITIES if kind != found)
        report.note(
            f"Augmentation: the images look like {WORDS[found]}, and their light is varied as such "
            f"(if they are not: {setting}{others})."
        )
    return found
