import numpy as np
import torch
from tests.conftest import draw
from tests.model.test_processor import door

from vasculora.core.types import Sample
from vasculora.model.images import sam_square
from vasculora.model.predictor import Predictor


def disc(height, width, radius=30):
    rows, columns = np.mgrid[:height, :width]
    mask = (rows - height / 2 + 0.5) ** 2 + (columns - width / 2 + 0.5) ** 2 < radius**2
    image = np.where(mask, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    return Sample(
        case_id="disc", group="disc", image=image, masks=mask[None], phrases=("blood vessel",)
    )


def extent(bright):
    rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
    return len(rows), len(columns)


def test_a_circle_stays_round(opened):
    sample = disc(80, 120)
    squashed = door(opened).batch([sample]).sam_pixels[0, 0].numpy() > 0
    boxed = door(opened, fit="letterbox").batch([sample]).sam_pixels[0, 0].numpy() > 0
    assert extent(squashed) == (48, 32)
    tall, wide = extent(boxed)
    assert wide == 32
    assert abs(tall - wide) <= 2  # less than the two pixels of a cell, and a blurred edge


def test_beside_the_image_the_square_is_empty(opened):
    batch = door(opened, fit="letterbox").batch([disc(80, 120)])
    ((top, left, height, width),) = batch.boxes
    assert (top, left, height, width) == (10, 0, 44, 64)
    assert (batch.sam_pixels[:, :, :top] == 0).all()
    assert (batch.sam_pixels[:, :, top + height :] == 0).all()
    assert (batch.sam_pixels[:, :, top : top + height] != 0).all()


def test_a_mirrored_image_lies_where_the_mirror_does():
    image = np.random.default_rng(0).integers(0, 255, (45, 100, 3)).astype(np.uint8)
    box = (18, 0, 28, 64)
    one, other = (
        sam_square(picture, 64, numerics="float32", box=box)
        for picture in (image, np.ascontiguousarray(image[::-1, ::-1]))
    )
    torch.testing.assert_close(one.flip(1, 2), other, atol=0.02, rtol=0)


def test_a_square_image_is_as_if_squashed_to_the_bit(opened):
    sample = draw("xray", 0)
    squashed, boxed = door(opened), door(opened, fit="letterbox")
    assert torch.equal(squashed.batch([sample]).sam_pixels, boxed.batch([sample]).sam_pixels)
    probs = [
        Predictor(opened.model, one)(sample.image, "blood vessel").prob for one in (squashed, boxed)
    ]
    np.testing.assert_array_equal(*probs)


def test_coarse_targets_are_those_of_the_images_own_cells(opened):
    sample = disc(80, 120)
    full = door(opened, fit="letterbox").batch([sample])
    assert full.targets[0].shape == (80, 120)
    area = door(opened, fit="letterbox", target="area").batch([sample]).targets[0]
    assert area.shape == (22, 32)
    assert abs(float(area.mean()) - sample.masks.mean()) < 0.01
    assert door(opened, fit="letterbox", target="nearest").batch([sample]).targets[0].shape == (
        22,
        32,
    )
    assert door(opened, target="area").batch([sample]).targets[0].shape == (32, 32)
    assert door(opened).batch([sample]).boxes == ()


def test_a_mask_drawn_in_the_square_comes_back_in_its_place(opened):
    """What the decoder draws where it sees the disc is the disc at the image's own size."""
    sample = disc(80, 120)
    processor = door(opened, fit="letterbox")
    seen = processor.batch([sample]).sam_pixels[:, 0]
    grid = torch.nn.functional.avg_pool2d(seen, 2)
    back = processor.probability(40 * grid, (80, 120)) > 0.5
    overlap = 2 * (back & sample.masks[0]).sum() / (back.sum() + sample.masks[0].sum())
    assert overlap > 0.95


def test_a_long_image_is_predicted_at_its_own_size(opened):
    image = draw("xray", 0).image[:24]
    prediction = Predictor(opened.model, door(opened, fit="letterbox"))(image, "blood vessel")
    assert prediction.prob.shape == (24, 64)
    squashed = Predictor(opened.model, door(opened))(image, "blood vessel")
    assert np.abs(prediction.prob - squashed.prob).max() > 1e-3
