import numpy as np
import pytest

from vasculora.core.types import RunLengths
from vasculora.data.runs import decode_counts, draw_runs


def compress(counts: tuple[int, ...]) -> str:
    """Return COCO's text of run lengths, written the other way round from the decoder."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            low, value = value & 31, value >> 5
            done = value == (-1 if low & 16 else 0)
            text += chr(48 + (low if done else low | 32))
            if done:
                break
    return text


def encode_mask(mask):
    """Return the run lengths of a mask, not compressed."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    starts_inside = bool(flat.size and flat[0])
    height, width = mask.shape
    return RunLengths(size=(height, width), counts=(0, *counts) if starts_inside else (*counts,))


def test_runs_go_down_the_columns_background_first() -> None:
    runs = RunLengths(size=(3, 2), counts=(1, 3, 2))
    assert draw_runs([runs], height=3, width=2).tolist() == [
        [False, True],
        [True, False],
        [True, False],
    ]


def test_compressed_text_worked_out_by_hand() -> None:
    # 5 is "5"; 16 needs its sign bit clear, so two characters: 16 | 32 -> "`", 0 -> "0"; the fourth
    # run, 2, is 2 - 16 = -14 from the second: its five bits are 10010 with the sign set -> "B".
    assert decode_counts("5`07B") == (5, 16, 7, 2)
    # The third is not yet a difference, the fifth is: 3 - 7 = -4 -> 11100 -> "L".
    assert decode_counts("5`07BL") == (5, 16, 7, 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_any_mask_survives_both_forms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((37, 53)) < rng.random()
    mask[:, 10:30] = seed % 2 == 0
    runs = encode_mask(mask)
    assert isinstance(runs.counts, tuple)
    assert (draw_runs([runs], height=37, width=53) == mask).all()
    text = RunLengths(size=runs.size, counts=compress(runs.counts))
    assert (draw_runs([text], height=37, width=53) == mask).all()


def test_several_are_united() -> None:
    first, second = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    first[0], second[:, 0] = True, True
    drawn = draw_runs([encode_mask(first), encode_mask(second)], height=4, width=4)
    assert (drawn == (first | second)).all()


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ((2, 3), (6,), "are for 3x2 but image is 2x3"),
        ((3, 2), (1, 2), "add up to 3"),
        ((3, 2), (8, -2), "no run is negative"),
        ((3, 2), (), "add up to 0"),
        ((3, 2), "", "add up to 0"),
        ((3, 2), "6 ", "no compressed text"),
        ((3, 2), "é", "no compressed text"),
        ((3, 2), "o" * 50, "no compressed text"),
        ((3, 2), "o", "cut off"),
        ((3, 2), "O", "add up to -1"),
    ],
)
def test_what_does_not_add_up_is_refused(
    size: tuple[int, int], counts: tuple[int, ...] | str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_runs([RunLengths(size=size, counts=counts)], height=3, width=2)
