import numpy as np
import pytest

from vasculora.core.types import Sample
from vasculora.data.modality import guess_modality


def sample(ground: tuple[int, int, int], vessel: tuple[int, int, int], *, empty: bool = False):
    masks = np.zeros((1, 40, 40), dtype=bool)
    masks[0, :, 18:22] = not empty
    image = np.full((40, 40, 3), ground, dtype=np.uint8)
    image[:, 18:22] = vessel
    return Sample(case_id="a", group="a", image=image, masks=masks, phrases=("vessel",))


XRAY = sample((130, 130, 130), (90, 90, 90))
FUNDUS = sample((180, 90, 40), (120, 50, 30))
OCTA = sample((60, 60, 60), (180, 180, 180))
BLANK = sample((60, 60, 60), (60, 60, 60), empty=True)


@pytest.mark.parametrize(
    ("samples", "kind"),
    [
        ([XRAY], "xray"),
        ([FUNDUS], "fundus"),
        ([OCTA], "octa"),
        ([OCTA, XRAY, XRAY], "xray"),
        ([BLANK, OCTA], "octa"),
        ([BLANK], None),
        ([], None),
    ],
)
def test_colour_and_the_vessels_brightness_tell_the_kind(samples, kind) -> None:
    assert guess_modality(samples) == kind


def test_a_black_frame_does_not_make_vessels_bright() -> None:
    framed = sample((130, 130, 130), (90, 90, 90))
    framed.image[:, :6] = framed.image[:, 34:] = 0
    assert guess_modality([framed]) == "xray"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("cimat_angios", "xray"),
        ("arcade/syntax", "xray"),
        ("chase_db1", "fundus"),
        ("octa500_3m/OCTA-500", "octa"),
    ],
)
def test_real_sets_are_known(shared_dir, folder, kind) -> None:
    from vasculora.data.dataset import load_sample
    from vasculora.data.sources import read_source

    records = read_source(shared_dir / "data" / folder).records[::9][:4]
    assert guess_modality(load_sample(r, phrase="vessel") for r in records) == kind
