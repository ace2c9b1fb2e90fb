"""Every image of a data set opened once, and the numbers that are kept of each.

A set may have a hundred thousand images, so of a case a few numbers stay, two digests and the
fingerprint by which near-duplicates are found (9 KB): never pixels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Float, Int

from vasculora.core.report import Report
from vasculora.core.spacing import Spacing
from vasculora.core.types import Record, Sample, Target
from vasculora.data.dataset import load_sample
from vasculora.data.encoding import image_encoding, mask_encoding
from vasculora.data.leaks import Fingerprint, fingerprint
from vasculora.data.modality import guess_modality
from vasculora.metrics.mask import count, dice
from vasculora.metrics.topology import skeleton_of, vessel_widths

_MANY = 0.3  # of the image: from here on a mask is asked whether it is the background
_STEPS = 4  # widths are counted in quarters of a pixel


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """What is kept of one mask.

    Attributes:
        phrase: What it is the mask of.
        absent: Annotated as not there.
        foreground: Share of the image that it covers.
        width: Median width along its centreline in pixels; 0 of an empty mask.
        widest: Its greatest width in pixels.
        background_width: Median width of what it leaves out, where it covers much; else 0.
        digest: The same for the same mask.
        encoding: How it is kept.
    """

    phrase: str
    absent: bool
    foreground: float
    width: float
    widest: float
    background_width: float
    digest: bytes
    encoding: str


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What is kept of one image.

    Attributes:
        case_id: Name of the case.
        group: Patient, eye or run.
        size: Height and width in pixels.
        encoding: How it is kept.
        modality: What kind of picture it looks like; None where it does not tell.
        foreground: Share of the image that any of its masks covers.
        file_digest: The same for the same file; empty where a file holds several pictures.
        pixel_digest: The same for the same picture, however it is kept.
        masks: One a target; none where the image is not annotated.
        fov_share: Share of the image that is scored; None where it has no field of view.
        agreement: Dice of a second observer's mask with the first's, inside the field of view; None
            where there is none.
        spacing: Millimetres a pixel, or None.
    """

    case_id: str
    group: str
    size: tuple[int, int]
    encoding: str
    modality: str | None
    foreground: float
    file_digest: bytes
    pixel_digest: bytes
    masks: tuple[MaskFacts, ...]
    fov_share: float | None = None
    agreement: float | None = None
    spacing: Spacing | None = None


@dataclass(kw_only=True)
class Survey:
    """What is kept of a data set.

    Attributes:
        cases: Those that can be read, in the order of the data.
        unusable: What is wrong with each of the others, by case id.
        fingerprints: What an image is known by, by case id.
        widths: How many centreline pixels have which width, in quarters of a pixel.
    """

    cases: list[CaseFacts] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    widths: Counter[int] = field(default_factory=Counter)

    def width_percentiles(self, *percentiles: float) -> tuple[float, ...]:
        """Return widths below which these percentages of all centreline pixels lie."""
        if not self.widths:
            return (0.0,) * len(percentiles)
        steps = sorted(self.widths)
        below = np.cumsum([self.widths[step] for step in steps])
        wanted = np.searchsorted(below, np.array(percentiles) / 100 * below[-1])
        return tuple(steps[int(min(index, len(steps) - 1))] / _STEPS for index in wanted)


def survey(records: Sequence[Record], *, phrase: str, allow_empty: bool, report: Report) -> Survey:
    """Return what is found by opening every image and mask; a bad one stops nothing.

    Args:
        records: The cases.
        phrase: Name of targets for which the data set has none.
        allow_empty: Whether masks without a single pixel are meant.
        report: Where progress goes.
    """
    found = Survey()
    with report.progress(len(records), "Looking at every image") as bar:
        for record in records:
            try:
                sample = load_sample(record, phrase=phrase, allow_empty=allow_empty)
            except (ValueError, OSError) as error:
                found.unusable[record.case_id] = str(error)
            else:
                found.cases.append(_look(record, sample, found.widths))
                found.fingerprints[record.case_id] = fingerprint(sample.image)
            bar.advance()
    return found


def _look(record: Record, sample: Sample, widths: Counter[int]) -> CaseFacts:
    height, width = sample.image.shape[:2]
    whole = record.frame is None
    return CaseFacts(
        case_id=record.case_id,
        group=record.group,
        size=(height, width),
        encoding=image_encoding(record.image_path, record.frame),
        modality=guess_modality([sample]) if len(sample.masks) else None,
        foreground=float(sample.masks.any(axis=0).mean()) if len(sample.masks) else 0.0,
        file_digest=_digest(record.image_path.read_bytes()) if whole else b"",
        pixel_digest=_digest(f"{width}x{height}".encode() + sample.image.tobytes()),
        masks=tuple(
            _look_at_mask(target, phrase, mask, widths)
            for target, phrase, mask in zip(
                record.targets, sample.phrases, sample.masks, strict=True
            )
        ),
        fov_share=None if sample.fov is None else float(sample.fov.mean()),
        agreement=None
        if sample.second is None or len(sample.masks) != 1
        else dice(count(sample.second, sample.masks[0], sample.fov)),
        spacing=sample.spacing,
    )


def _look_at_mask(
    target: Target, phrase: str, mask: Bool[np.ndarray, "h w"], widths: Counter[int]
) -> MaskFacts:
    own = vessel_widths(mask, skeleton_of(mask))
    widths.update(_steps(own).tolist())
    share = float(mask.mean())
    return MaskFacts(
        phrase=phrase,
        absent=target.absent,
        foreground=share,
        width=_median(own),
        widest=float(own.max(initial=0)),
        background_width=_median(vessel_widths(~mask, skeleton_of(~mask))) if share > _MANY else 0,
        digest=_digest(np.packbits(mask).tobytes()),
        encoding=mask_encoding(target.mask_path) if target.mask_path else _drawn_as(target),
    )


def _drawn_as(target: Target) -> str:
    if target.polygons and target.runs:
        return "polygons and run lengths"
    if target.runs:
        return "run lengths"
    return "polygons" if target.polygons else "nothing"


def _steps(widths: Float[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
    return np.round(widths * _STEPS).astype(np.int64)


def _median(widths: Float[np.ndarray, " p"]) -> float:
    return float(np.median(widths)) if len(widths) else 0.0


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
