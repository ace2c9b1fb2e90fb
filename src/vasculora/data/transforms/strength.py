"""How far an augmentation may go, level by level."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How far an augmentation may go. Every range is drawn from evenly.

    What is 0 draws no random number, as far as it came after `light` was first used: a level that
    does without it stays, bit for bit, what it was.

    Attributes:
        rotation: Largest turn, degrees to either side.
        zoom: Largest zoom, in or out, as a factor.
        shift: Largest shift, as a share of the side.
        elastic: Largest displacement of a bend, as a share of the shorter side.
        gamma: Largest exponent on brightness, or its inverse.
        contrast: Largest relative change of contrast round the mean.
        brightness: Largest change of brightness, in grey levels.
        noise: Largest standard deviation of noise, in grey levels.
        blur: Largest radius of blur, in pixels.
        blur_share: Share of samples that are blurred.
        clahe_share: Share of samples whose local contrast is evened out.
        light: Share of samples that get each change of light of their kind of picture.
    """

    rotation: float
    zoom: float
    shift: float
    elastic: float
    gamma: float
    contrast: float
    brightness: float
    noise: float
    blur: float
    blur_share: float
    clahe_share: float
    light: float


AUGMENTATIONS: dict[str, Strength | None] = {
    "none": None,
    "light": Strength(
        rotation=10,
        zoom=1.1,
        shift=0.03,
        elastic=0,
        gamma=1.15,
        contrast=0.1,
        brightness=5,
        noise=3,
        blur=0,
        blur_share=0,
        clahe_share=0,
        light=0,
    ),
    "strong": Strength(
        rotation=25,
        zoom=1.25,
        shift=0.06,
        elastic=0.02,
        gamma=1.5,
        contrast=0.3,
        brightness=15,
        noise=8,
        blur=1,
        blur_share=0.2,
        clahe_share=0.2,
        light=0.4,
    ),
}
"""The levels a run chooses from."""
