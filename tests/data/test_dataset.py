import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vasculora.core.io import write_image
from vasculora.core.types import Polygon, Record, Sample, Target
from vasculora.data.dataset import VesselDataset, check_records, draw_polygons, load_sample
from vasculora.data.sources import read_source
from vasculora.data.transforms import build_augment
from vasculora.data.windows import draw_window


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    return (left, top, right, top, right, bottom, left, bottom)


def make_record(
    folder: Path, name: str, mask: np.ndarray | None = None, **target: object
) -> Record:
    image = np.full((20, 30, 3), 100, dtype=np.uint8)
    write_image(folder / f"{name}.png", image)
    if mask is not None:
        write_image(folder / f"{name}_gt.png", mask)
        target["mask_path"] = folder / f"{name}_gt.png"
    return Record(
        case_id=name,
        group=name,
        image_path=folder / f"{name}.png",
        targets=(Target(**target),),
    )


def one_pixel(height: int = 20, width: int = 30) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[3, 4] = 255
    return mask


def test_a_mask_file_becomes_a_sample(tmp_path: Path) -> None:
    sample = load_sample(make_record(tmp_path, "a", one_pixel()), phrase="blood vessel")
    assert (sample.case_id, sample.group, sample.phrases) == ("a", "a", ("blood vessel",))
    assert sample.image.shape == (20, 30, 3)
    assert np.argwhere(sample.masks).tolist() == [[0, 3, 4]]


def test_a_targets_own_phrase_comes_first(tmp_path: Path) -> None:
    record = make_record(tmp_path, "a", phrase="vein", polygons=(rectangle(1, 2, 4, 4),))
    sample = load_sample(record, phrase="blood vessel")
    assert sample.phrases == ("vein",)
    assert sample.masks.sum() == 6


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    record = make_record(tmp_path, "DRIVE/21", one_pixel(30, 20))
    message = r"DRIVE/21: mask is 20x30 but image is 30x20\. Rotate or re-export the mask"
    with pytest.raises(ValueError, match=message):
        load_sample(record, phrase="v")
    record = make_record(tmp_path, "b", one_pixel(40, 60))
    with pytest.raises(
        ValueError, match=r"b: mask is 60x40 but image is 30x20\. Re-export the mask"
    ):
        load_sample(record, phrase="v")


def test_an_empty_mask_is_refused_unless_allowed(tmp_path: Path) -> None:
    record = make_record(tmp_path, "a", np.zeros((20, 30), np.uint8))
    with pytest.raises(ValueError, match="a: the mask of 'vessel' is empty"):
        load_sample(record, phrase="vessel")
    assert not load_sample(record, phrase="vessel", allow_empty=True).masks.any()


@pytest.mark.parametrize(
    ("ring", "message"),
    [
        ((1.0, 2.0, 3.0, 4.0), "a polygon has 4 numbers, but needs x and y of 3 points"),
        ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), "a polygon has 7 numbers"),
        ((1.0, 2.0, 3.0, math.nan, 5.0, 6.0), "holds NaN or infinity"),
        (rectangle(5, 5, 60, 40), r"reaches from \(5, 5\) to \(60, 40\) but image is 30x20"),
        (rectangle(-3, 5, 9, 9), r"reaches from \(-3, 5\) to \(9, 9\) but image is 30x20"),
        (rectangle(0.1, 0.2, 0.4, 0.4), "the mask of 'v' is empty"),
    ],
)
def test_wrong_polygons_are_refused(tmp_path: Path, ring: Polygon, message: str) -> None:
    with pytest.raises(ValueError, match=f"^a: .*{message}"):
        load_sample(make_record(tmp_path, "a", polygons=(ring,)), phrase="v")


def test_a_rectangle_keeps_its_area_and_is_not_widened() -> None:
    mask = draw_polygons([rectangle(2, 3, 7, 5)], height=10, width=12)
    truth = np.zeros((10, 12), dtype=bool)
    truth[3:5, 2:7] = True
    np.testing.assert_array_equal(mask, truth)


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    for left, right, inside in ((1.4, 3.6, [1, 2, 3]), (1.6, 3.4, [2]), (1.5, 3.5, [1, 2])):
        mask = draw_polygons([rectangle(left, 0, right, 1)], height=1, width=5)
        assert np.flatnonzero(mask).tolist() == inside
        mask = draw_polygons([rectangle(0, left, 1, right)], height=5, width=1)
        assert np.flatnonzero(mask).tolist() == inside


def test_overlapping_rings_are_a_union_whichever_way_they_turn() -> None:
    first, second = rectangle(1, 1, 6, 6), rectangle(4, 4, 9, 9)
    backwards = np.reshape(second, (-1, 2))[::-1].ravel().tolist()
    for ring in (second, tuple(backwards)):
        mask = draw_polygons([first, ring], height=10, width=10)
        assert mask.sum() == 25 + 25 - 4
        assert mask[4:6, 4:6].all()


def test_rings_that_share_an_edge_leave_no_gap() -> None:
    whole = rectangle(1.3, 1.2, 17.6, 8.7)
    left = (1.3, 1.2, 9.4, 1.2, 5.1, 8.7, 1.3, 8.7)
    right = (9.4, 1.2, 17.6, 1.2, 17.6, 8.7, 5.1, 8.7)
    parts = draw_polygons([left, right], height=10, width=20)
    np.testing.assert_array_equal(parts, draw_polygons([whole], height=10, width=20))


def test_a_ring_that_runs_over_itself_stays_filled() -> None:
    twice = rectangle(1, 1, 6, 6) * 2
    assert draw_polygons([twice], height=8, width=8).sum() == 25


def test_a_disk_and_a_tilted_vessel_have_the_area_of_their_outline() -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disk = tuple(np.stack([50 + 30 * np.cos(angles), 50 + 30 * np.sin(angles)], 1).ravel().tolist())
    assert draw_polygons([disk], height=100, width=100).sum() == pytest.approx(
        np.pi * 900, rel=0.01
    )
    # 3 px wide and 90 px long, at 33 degrees: painting the outline too would make it 4 px wide.
    along = np.array([math.cos(math.radians(33)), math.sin(math.radians(33))])
    across = np.array([-along[1], along[0]]) * 1.5
    start, end = np.array([10.2, 20.7]), np.array([10.2, 20.7]) + 90 * along
    vessel = tuple(
        np.stack([start - across, end - across, end + across, start + across]).ravel().tolist()
    )
    assert draw_polygons([vessel], height=100, width=100).sum() == pytest.approx(270, rel=0.02)


def test_what_lies_outside_is_cut_off() -> None:
    rings = [rectangle(-5, -5, 2, 3), rectangle(8, 4, 99, 5), rectangle(50, 50, 60, 60)]
    mask = draw_polygons(rings, height=6, width=10)
    assert mask.sum() == 6 + 2
    assert mask[:3, :2].all()
    assert mask[4, 8:].all()


def scored_record(folder: Path, name: str = "a") -> Record:
    """Make a record whose field of view is the left half, and whose second observer saw a row."""
    half, row = np.zeros((2, 20, 30), dtype=np.uint8)
    half[:, :15], row[3] = 255, 255
    write_image(folder / "fov.png", half)
    write_image(folder / "second.png", row)
    return replace(
        make_record(folder, name, one_pixel()),
        fov_path=folder / "fov.png",
        second_path=folder / "second.png",
        spacing=(0.25, 0.2),
    )


def test_what_a_case_is_scored_by_is_read_and_kept(tmp_path: Path) -> None:
    record = scored_record(tmp_path)
    data = VesselDataset([record], phrase="v", cache_bytes=4096)
    for sample in (load_sample(record, phrase="v"), data[0], data[0]):
        assert np.argwhere(sample.masks).tolist() == [[0, 3, 4]]
        assert sample.fov is not None
        assert sample.fov.sum(axis=1).tolist() == [15] * 20
        assert sample.second is not None
        assert np.flatnonzero(sample.second.any(axis=1)).tolist() == [3]
        assert sample.spacing == (0.25, 0.2)
        record.image_path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        VesselDataset([record], phrase="v")[0]


@pytest.mark.parametrize(("fov", "second"), [(True, False), (False, True), (False, False)])
def test_what_is_not_there_is_none(tmp_path: Path, fov: bool, second: bool) -> None:
    record = scored_record(tmp_path)
    record = replace(
        record,
        fov_path=record.fov_path if fov else None,
        second_path=record.second_path if second else None,
    )
    data = VesselDataset([record], phrase="v", cache_bytes=4096)
    for sample in (data[0], data[0]):
        assert (sample.fov is not None, sample.second is not None) == (fov, second)
        assert sample.masks.shape == (1, 20, 30)


def test_training_reads_nothing_of_what_scores_use(tmp_path: Path) -> None:
    record = scored_record(tmp_path)
    for path in (record.fov_path, record.second_path):
        assert path is not None
        path.unlink()
    data = VesselDataset([record], phrase="v", transform=lambda s, _: s, cache_bytes=4096)
    for sample in (data[0], data[0]):
        assert sample.fov is sample.second is sample.spacing is None


def test_no_mask_stays_behind_on_a_picture_that_was_moved(tmp_path: Path) -> None:
    sample = load_sample(scored_record(tmp_path), phrase="v")
    augment = build_augment("light")
    assert augment is not None
    moved = augment(sample, np.random.default_rng(0))
    assert moved.fov is moved.second is moved.spacing is None
    cut = draw_window(sample, np.random.default_rng(0), window=8, foreground=1.0)
    assert (cut.fov is not None, cut.second is not None) == (True, True)
    # The row goes through the pixel, and all of the window lies left of the middle.
    assert cut.second[np.nonzero(cut.masks[0])].tolist() == [True]
    assert cut.fov.shape == cut.second.shape == (8, 8)
    assert cut.fov.all()


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("fov", one_pixel(30, 20), r"a: field of view is 20x30 but image is 30x20\. Rotate or"),
        ("fov", np.zeros((20, 30), np.uint8), "a: its field of view is empty"),
        ("second", one_pixel(9, 9), "a: second observer's mask is 9x9 but image is 30x20"),
        (
            "second",
            np.full((20, 30), 99, np.uint8),
            r"second\.png: .* this is no mask but a picture",
        ),
    ],
)
def test_what_scores_use_must_fit(
    tmp_path: Path, name: str, pixels: np.ndarray, message: str
) -> None:
    record = scored_record(tmp_path)
    write_image(tmp_path / f"{name}.png", pixels)
    with pytest.raises(ValueError, match=message):
        load_sample(record, phrase="v")


def test_all_bad_cases_are_listed_at_once(tmp_path: Path) -> None:
    records = [make_record(tmp_path, f"bad{i:02}", one_pixel(9, 9)) for i in range(11)]
    records.append(make_record(tmp_path, "good", one_pixel()))
    check_records(records[-1:], "v")
    shown: list[Sample] = []
    records[3].image_path.unlink()
    with pytest.raises(ValueError, match="11 of 12 cases cannot be used") as caught:
        check_records(records, "v", on_sample=shown.append)
    assert [sample.case_id for sample in shown] == [records[-1].case_id]
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("bad00: mask is 9x9 but image is 30x20.")
    assert lines[4].startswith("bad03: ")
    assert lines[4].endswith("bad03.png: no such image file.")
    assert len(lines) == 12
    assert lines[-1] == "... and 1 more."


def noisy(sample: Sample, rng: np.random.Generator) -> Sample:
    image = rng.integers(0, 256, sample.image.shape, dtype=np.uint8)
    return Sample(
        case_id=sample.case_id,
        group=sample.group,
        image=image,
        masks=sample.masks,
        phrases=sample.phrases,
    )


def test_random_numbers_depend_on_seed_epoch_and_index_only(tmp_path: Path) -> None:
    records = [make_record(tmp_path, name, one_pixel()) for name in "ab"]

    def image(seed: int, epoch: int, index: int, *, before: int = 0) -> bytes:
        data = VesselDataset(records, phrase="v", transform=noisy, seed=seed)
        for _ in range(before):
            data[0]
        data.set_epoch(epoch)
        return data[index].image.tobytes()

    assert image(0, 1, 1, before=3) == image(0, 1, 1) == image(0, 1, -1)
    assert len({image(0, 1, 1), image(0, 1, 0), image(0, 2, 1), image(1, 1, 1)}) == 4


def test_kept_samples_are_not_decoded_again_and_cannot_be_spoilt(tmp_path: Path) -> None:
    record = make_record(tmp_path, "a", one_pixel(), phrase="vein")
    data = VesselDataset([record], phrase="v", cache_bytes=4096)
    fresh = data[0]
    data[0].image[:] = 7
    data[0].masks[:] = True
    record.image_path.unlink()
    assert (data[0].image == 100).all()
    assert data[0].masks.sum() == 1
    kept = data[0]
    assert (kept.case_id, kept.group, kept.phrases) == (fresh.case_id, fresh.group, fresh.phrases)
    with pytest.raises(FileNotFoundError):
        VesselDataset([record], phrase="v")[0]


def test_whether_a_sample_is_kept_makes_no_difference(tmp_path: Path) -> None:
    records = [make_record(tmp_path, name, one_pixel()) for name in "ab"]
    strong = build_augment("strong")
    # The middle one keeps the first sample alone.
    datasets = [
        VesselDataset(records, phrase="v", transform=strong, cache_bytes=size)
        for size in (0, 800, 10_000)
    ]
    seen = []
    for data in datasets:
        for epoch in (1, 2):
            data.set_epoch(epoch)
            samples = [data[0], data[1]]
        seen.append([(s.image.tobytes(), s.masks.tobytes()) for s in samples])
    assert seen[0] == seen[1] == seen[2]
    for record in records:
        record.image_path.unlink()
    assert datasets[1][0].case_id == "a"
    with pytest.raises(FileNotFoundError):
        datasets[1][1]


def test_an_index_beyond_the_end_ends_the_iteration(tmp_path: Path) -> None:
    data = VesselDataset([make_record(tmp_path, "a", one_pixel())], phrase="v")
    assert len(data) == 1
    assert [sample.case_id for sample in data] == ["a"]  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        data[1]


@pytest.mark.parametrize("name", ["cimat_angios", "chase_db1/CHASEDB1"])
def test_real_images_are_accepted(shared_dir: Path, name: str) -> None:
    catalog = read_source(shared_dir / "data" / name)
    check_records(catalog.records[:8], "blood vessel")


def test_a_real_mask_with_grey_edges_is_cut_at_128(shared_dir: Path) -> None:
    catalog = read_source(shared_dir / "data" / "cimat_angios")
    (record,) = (r for r in catalog.records if r.case_id == "29")
    (target,) = record.targets
    assert target.mask_path is not None
    values = np.asarray(Image.open(target.mask_path))
    sample = load_sample(record, phrase="blood vessel")
    np.testing.assert_array_equal(sample.masks[0], values >= 128)
    assert sample.masks[0].sum() < (values > 0).sum()


def test_a_real_image_is_augmented(shared_dir: Path) -> None:
    catalog = read_source(shared_dir / "data" / "cimat_angios")
    transform = build_augment("strong")
    data = VesselDataset(catalog.records[:2], phrase="v", transform=transform)
    assert data[0].image.shape == (300, 300, 3)
    assert 0.01 < data[0].masks.mean() < 0.2
