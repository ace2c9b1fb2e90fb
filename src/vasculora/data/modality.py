"""What kind of picture a data set holds, guessed from a few of its samples.

Colour is fundus; of grey pictures, vessels far brighter than what surrounds them are OCTA, dark
ones X-ray. That is all that the choice of an augmentation needs, and it held for every set it was
tried on; a retina photographed without red, in grey, is taken for X-ray, which it resembles.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np

from vasculora.core.types import Sample

Modality = Literal["xray", "fundus", "octa"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)

_LEAST_COLOUR = 10.0
"""Mean distance between a pixel's channels, in grey levels; JPEG's own colour noise is below 3."""
_LEAST_GLOW = 30.0
"""Grey levels by which vessels must outshine the rest; a black frame round an X-ray gives up to 20,
the faintest OCTA set 60."""


def guess_modality(samples: Iterable[Sample]) -> Modality | None:
    """Return the kind that most samples look like; None where no sample tells.

    Args:
        samples: A few cases with their masks; those without a single pixel of mask tell only
            whether they have colour.
    """
    votes: Counter[Modality] = Counter(
        vote for sample in samples if (vote := _look(sample)) is not None
    )
    return votes.most_common(1)[0][0] if votes else None


def _look(sample: Sample) -> Modality | None:
    image = sample.image
    if float(np.ptp(image, axis=2).mean()) >= _LEAST_COLOUR:
        return "fundus"
    vessels = sample.masks.any(axis=0)
    if not vessels.any() or vessels.all():
        return None
    grey = image[..., 1]
    glow = float(np.median(grey[vessels])) - float(np.median(grey[~vessels]))
    return "octa" if glow >= _LEAST_GLOW else "xray"
