"""The phrases of a drawn vessel image, and which mask each of them means."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, UInt8

Mask = Bool[np.ndarray, "h w"]
Drawing = tuple[UInt8[np.ndarray, "h w 3"], dict[str, Mask]]
"""An image and its masks by phrase, "blood vessel" first."""


def named(vessels: Mask, dark: Mask, bright: Mask) -> dict[str, Mask]:
    """Return the phrases every style has, "blood vessel" first."""
    return {
        BLOOD_VESSEL: vessels,
        "dark vessel": dark,
        "bright vessel": bright,
        "background": ~vessels,
    }


def dark_only(vessels: Mask) -> dict[str, Mask]:
    """Return the phrases of an image whose vessels are all dark."""
    return named(vessels, vessels, np.zeros_like(vessels))


def bright_only(vessels: Mask) -> dict[str, Mask]:
    """Return the phrases of an image whose vessels are all bright."""
    return named(vessels, np.zeros_like(vessels), vessels)


BLOOD_VESSEL = "blood vessel"

_ANY_VESSEL = ("vessel", "vessels", "blood vessels", "vessel tree")
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "cine": (*_ANY_VESSEL, "artery", "coronary artery"),
    "fundus_wide": (*_ANY_VESSEL, "retinal vessel"),
    "mixed": _ANY_VESSEL,
    "octa_wide": (*_ANY_VESSEL, "retinal vessel"),
    "sides": _ANY_VESSEL,
    "tubes": _ANY_VESSEL,
}
"""Other words for "blood vessel" by style, each true of what the style shows."""

VESSEL_PHRASES = (
    BLOOD_VESSEL,
    "dark vessel",
    "bright vessel",
    "background",
    "catheter",
    "thick vessel",
    "thin vessel",
    "left vessel",
    "right vessel",
    *_ANY_VESSEL,
    "artery",
    "coronary artery",
    "retinal vessel",
)
