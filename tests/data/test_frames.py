from pathlib import Path

import numpy as np
import pytest

from vasculora.core.types import Record, Target
from vasculora.data.frames import choose_frames, parse_frames


@pytest.fixture
def records(tmp_path, write_dicom):
    """A cine whose third frame shows a vessel, another that is annotated, and a picture."""
    cine = np.full((5, 64, 64), 150, np.uint8)
    cine[:, 20:, 30:33] = 130
    cine[2, 20:, 30:33] = 40
    path = write_dicom(tmp_path / "a", cine)
    other = write_dicom(tmp_path / "b", cine)
    plain = Record(case_id="c", group="g", image_path=Path("c.png"), targets=())
    drawn = Target(mask_path=Path("m.png"))

    def record(path, frame, *targets):
        name = f"{path.name}_f{frame:03d}"
        return Record(case_id=name, group="g", image_path=path, targets=targets, frame=frame)

    return (*(record(path, k) for k in range(5)), record(other, 4, drawn), plain)


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        ("all", ["a_f000", "a_f001", "a_f002", "a_f003", "a_f004", "b_f004", "c"]),
        ("peak", ["a_f002", "b_f004", "c"]),
        (3, ["a_f003", "b_f004", "c"]),
    ],
)
def test_only_frames_without_a_mask_are_chosen_from(records, frames, wanted):
    told = []
    kept = choose_frames(records, frames, on_cine=told.append)
    assert [record.case_id for record in kept] == wanted
    assert [record.case_id for record in told] == (wanted[:1] if frames != "all" else [])


def test_a_number_that_is_not_there(records):
    with pytest.raises(ValueError, match="has no frame 5 to choose; there are 5, from 0 to 4"):
        choose_frames(records, 5)


def test_words_for_frames():
    assert [parse_frames(text) for text in ("all", "peak", "31", "0")] == ["all", "peak", 31, 0]
    for text in ("-1", "best", "", "1.5", "٣", "None"):
        with pytest.raises(ValueError, match="expected all, peak"):
            parse_frames(text)
