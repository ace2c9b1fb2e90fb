"""Every public set as it is given out, made up in small, with its traps."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vasculora.core.io import read_mask_image
from vasculora.core.types import Record
from vasculora.data.dataset import load_sample
from vasculora.data.sources import Catalog, read_source, write_manifest
from vasculora.data.sources.layouts import SOURCES
from vasculora.data.sources.published import PUBLISHED
from vasculora.data.sources.rules import PublicSet

MASK = np.zeros((6, 8), np.uint8)
MASK[2:4, 1:7] = 255


def save(data: Path, *names: str, mask: bool = False) -> None:
    for name in names:
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(MASK if mask else MASK // 2 + 40).save(path)


def save_inverted_palette(data: Path, *names: str) -> None:
    """Save masks whose index 0 is white and whose index 1 is black."""
    for name in names:
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((MASK == 0).astype(np.uint8))
        picture.putpalette([255] * 3 + [0] * 3)
        picture.save(path)


def read(data: Path, name: str, *case_ids: str) -> Catalog:
    """Read a set, and make sure that each of its masks is the one that was drawn."""
    catalog = read_source(data)
    assert catalog.source == name
    assert [record.case_id for record in catalog.records] == list(case_ids)
    for record in catalog.records:
        masks = load_sample(record, phrase="blood vessel").masks
        assert (masks == (MASK > 0)).all()
        assert record.fov_path is None or (read_mask_image(record.fov_path) == (MASK > 0)).all()
    # Whatever is read can be written as a manifest, and is the same again.
    write_manifest(data / ".again.jsonl", catalog.records, catalog.split)
    again = read_source(data / ".again.jsonl")
    assert (again.records, again.split) == (catalog.records, catalog.split)
    return catalog


def parts(catalog: Catalog) -> dict[str, list[str]]:
    assert catalog.split is not None
    return catalog.split.to_dict()


def groups(records: tuple[Record, ...]) -> list[str]:
    return [record.group for record in records]


@pytest.mark.parametrize("above", ["", "DRIVE/"])
def test_drive(tmp_path: Path, above: str) -> None:
    data = tmp_path / above
    save(data, "training/images/21_training.tif", "test/images/01_test.tif")
    save(data, "test/images/02_test.tif")
    save_inverted_palette(data, "training/1st_manual/21_manual1.gif", "test/mask/01_test_mask.gif")
    save(data, "test/1st_manual/01_manual1.gif", "test/2nd_manual/01_manual2.gif", mask=True)
    save(data, "training/mask/21_training_mask.gif", mask=True)
    catalog = read(tmp_path, "drive", "01_test", "21_training")
    assert parts(catalog) == {"train": ["21_training"], "val": [], "test": ["01_test"]}
    fields_of_view = [record.fov_path for record in catalog.records]
    assert fields_of_view == [
        data / "test/mask/01_test_mask.gif",
        data / "training/mask/21_training_mask.gif",
    ]
    assert catalog.notes[1:3] == (
        f"Not used: 1 images without a mask: {above}test/images/02_test",
        "For scoring: a field of view (2 of 2 images), a second observer's mask (1 of 2 images).",
    )
    second = [record.second_path for record in catalog.records]
    assert second == [data / "test/2nd_manual/01_manual2.gif", None]
    assert any(note.startswith("The data set's own parts hold no val.") for note in catalog.notes)


def test_chase(tmp_path: Path) -> None:
    for name in ("Image_01L", "Image_01R", "Image_02L"):
        save(tmp_path, f"{name}.jpg")
        save(tmp_path, f"{name}_1stHO.png", f"{name}_2ndHO.png", mask=True)
    save_inverted_palette(tmp_path, "fov_masks_lwnet/Image_01L.gif")
    # Numbered by rank: nothing says whose it is, so it is nobody's.
    save_inverted_palette(tmp_path, "fov_masks_lwnet/2.gif")
    catalog = read(tmp_path, "chase_db1", "Image_01L", "Image_01R", "Image_02L")
    assert groups(catalog.records) == ["01", "01", "02"]
    assert catalog.records[0].fov_path == tmp_path / "fov_masks_lwnet/Image_01L.gif"
    assert catalog.records[1].fov_path is catalog.records[2].fov_path is None
    assert catalog.records[1].second_path == tmp_path / "Image_01R_2ndHO.png"
    assert "Not used: 1 other image files: fov_masks_lwnet/2" in catalog.notes
    assert catalog.split is None
    assert catalog.notes[-1] == "Groups: 2, one a child, whose number is in the file names."


def test_a_table_and_a_pattern_count_more_than_the_layouts_rule(tmp_path: Path) -> None:
    save(tmp_path, "Image_01L.jpg", "Image_01R.jpg")
    save(tmp_path, "Image_01L_1stHO.png", "Image_01R_1stHO.png", mask=True)
    assert groups(read_source(tmp_path, group_regex="(.)$").records) == ["L", "R"]
    (tmp_path / "groups.csv").write_text("image,group\nImage_01L,a\nImage_01R.jpg,b\n")
    assert groups(read_source(tmp_path).records) == ["a", "b"]


@pytest.mark.parametrize("place", ["", "stare-images/"])
def test_stare(tmp_path: Path, place: str) -> None:
    save(tmp_path, f"{place}im0001.ppm", f"{place}im0002.ppm")
    save(tmp_path, "labels-ah/im0001.ah.ppm", "labels-ah/im0002.ah.ppm", mask=True)
    save(tmp_path, "labels-vk/im0001.vk.ppm", mask=True)
    catalog = read(tmp_path, "stare", "im0001", "im0002")
    second = [record.second_path for record in catalog.records]
    assert second == [tmp_path / "labels-vk/im0001.vk.ppm", None]


def test_a_second_observer_alone_is_no_truth(tmp_path: Path) -> None:
    save(tmp_path, "Image_01L.jpg", "Image_01R.jpg")
    save(tmp_path, "Image_01L_1stHO.png", "Image_01R_2ndHO.png", mask=True)
    catalog = read(tmp_path, "chase_db1", "Image_01L")
    note = "Not used: 1 masks of a second observer without a first: Image_01R_2ndHO"
    assert note in catalog.notes


@pytest.mark.parametrize("public", PUBLISHED, ids=lambda public: public.name)
def test_a_second_observer_stands_beside_one_mask(public: PublicSet) -> None:
    assert all(len(rule.masks) == 1 for rule in public.rules if rule.second)


def test_stare_must_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "labels-ah").mkdir()
    for name in ("im0001.ppm.gz", "labels-ah/im0001.ah.ppm.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"P6"))
    with pytest.raises(ValueError, match=r"2 images are packed .*Unpack them first: gunzip -r"):
        read_source(tmp_path)
    save(tmp_path, "im0002.ppm")
    save(tmp_path, "labels-ah/im0002.ah.ppm", mask=True)
    catalog = read(tmp_path, "stare", "im0002")
    assert catalog.notes[1].startswith("Not used: 2 packed files (unpack them with gunzip): im0001")


def test_hrf(tmp_path: Path) -> None:
    # Healthy eyes came from another camera: their suffix is in small letters.
    for name, suffix in (("01_dr", "JPG"), ("01_h", "jpg"), ("02_g", "JPG")):
        save(tmp_path, f"images/{name}.{suffix}")
        save(tmp_path, f"manual1/{name}.tif", f"mask/{name}_mask.tif", mask=True)
    catalog = read(tmp_path, "hrf", "01_dr", "01_h", "02_g")
    assert all(record.fov_path is not None for record in catalog.records)


def test_fives_numbers_its_parts_from_one_each(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save(tmp_path, f"{part}/Original/1_A.png")
        save(tmp_path, f"{part}/Ground truth/1_A.png", mask=True)
    catalog = read(tmp_path, "fives", "test/1_A", "train/1_A")
    assert parts(catalog) == {"train": ["train/1_A"], "val": [], "test": ["test/1_A"]}


@pytest.mark.parametrize("above", ["", "Database_134_Angiograms/"])
def test_dca1(tmp_path: Path, above: str) -> None:
    save(tmp_path, f"{above}1.pgm", f"{above}10.pgm")
    save(tmp_path, f"{above}1_gt.pgm", mask=True)
    # Grey at the edge of a mask: it is cut in the middle.
    soft = MASK.copy()
    soft[2, 0], soft[2, 7] = 100, 60
    Image.fromarray(soft).save(tmp_path / f"{above}10_gt.pgm")
    read(tmp_path, "dca1", "1", "10")


def test_xcad_has_masks_in_its_test_part_only(tmp_path: Path) -> None:
    save(tmp_path, "train/img/000_1.png", "test/img/000_1.png", "test/img/000_2.png")
    save(tmp_path, "test/gt/000_1.png", "test/gt/000_2.png", mask=True)
    catalog = read(tmp_path, "xcad", "test/000_1", "test/000_2")
    assert catalog.split is None
    assert "Not used: 1 images without a mask: train/img/000_1" in catalog.notes


@pytest.mark.parametrize("above", ["OCTA-500/OCTA_3M/", "OCTA_3M/", ""])
def test_octa500(tmp_path: Path, above: str) -> None:
    numbers = ("10301", "10440", "10441", "10451")
    for number in numbers:
        for projection in ("ILM_OPL", "FULL"):
            save(tmp_path, f"{above}ProjectionMaps/OCTA({projection})/{number}.bmp")
        for label in ("LargeVessel", "Artery", "Vein", "Capillary", "FAZ"):
            if (label, number) != ("Vein", "10440"):
                save(tmp_path, f"{above}GT_{label}/{number}.bmp", mask=True)
    # Numbered by rank, as some copies have it: not subject 1 of this set.
    save(tmp_path, f"{above}GT_Vein/2.bmp", mask=True)
    catalog = read(tmp_path, "octa500", *numbers)
    assert [target.phrase for target in catalog.records[0].targets] == [
        "large blood vessel",
        "artery",
        "vein",
        "capillary",
        "foveal avascular zone",
    ]
    assert len(catalog.records[1].targets) == 4
    assert groups(catalog.records) == list(numbers)
    assert parts(catalog) == {"train": ["10301", "10440"], "val": ["10441"], "test": ["10451"]}
    assert any(note.startswith("Not used: 5 other image files: ") for note in catalog.notes)


def test_octa500_in_training_and_validation(tmp_path: Path) -> None:
    for part, number in (("Training", "10301"), ("Validation", "10441")):
        save(tmp_path, f"{part}/OCTA500_3M_images/{number}.bmp")
        save(tmp_path, f"{part}/OCTA500_3M_labels/{number}.bmp", mask=True)
    catalog = read(tmp_path, "octa500", "10301", "10441")
    assert parts(catalog) == {"train": ["10301"], "val": ["10441"], "test": []}


def test_rose_shows_one_eye_in_three_layers(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for layer, suffix in (("SVC", "tif"), ("SVC_DVC", "png")):
            folder = f"ROSE-1/{layer}/{part}"
            save(tmp_path, f"{folder}/img/01.{suffix}")
            save(tmp_path, f"{folder}/gt/01.{suffix}", f"{folder}/thin_gt/01.tif", mask=True)
        save(tmp_path, f"ROSE-2/{part}/original/1_OD.png")
        save(tmp_path, f"ROSE-2/{part}/gt/1_OD.png", mask=True)
    names = [f"{above}/{part}" for above in ("SVC", "SVC_DVC") for part in ("test", "train")]
    rose_2 = ["ROSE-2/test/1_OD", "ROSE-2/train/1_OD"]
    catalog = read(tmp_path, "rose", *rose_2, *(f"{name}/01" for name in names))
    assert groups(catalog.records) == [*rose_2, "test-01", "train-01", "test-01", "train-01"]
    assert len(parts(catalog)["train"]) == len(parts(catalog)["test"]) == 3
    assert not any(note.startswith("Warning") for note in catalog.notes)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    save(tmp_path, "images/a.jpg", "manual1/.hidden.tif")
    save(tmp_path, "manual1/a.tif", mask=True)
    (tmp_path / "manual1" / "again").symlink_to(tmp_path, target_is_directory=True)
    read(tmp_path, "hrf", "a")


@pytest.mark.parametrize(
    ("image", "masks", "message"),
    [
        ("images/a.jpg", ("manual1/a.tif", "manual1/a.png"), r"images/a\.jpg has 2 masks: manual1"),
        ("images/a.jpg", ("manual1/b.tif",), r"looks like hrf, but no image has a mask\. Found im"),
    ],
)
def test_masks_that_cannot_be_given_to_an_image(
    tmp_path: Path, image: str, masks: tuple[str, ...], message: str
) -> None:
    save(tmp_path, image)
    save(tmp_path, *masks, mask=True)
    with pytest.raises(ValueError, match=message):
        read_source(tmp_path)


def test_images_that_differ_in_the_suffix_only(tmp_path: Path) -> None:
    save(tmp_path, "images/a.jpg", "images/a.png")
    save(tmp_path, "manual1/a.tif", mask=True)
    with pytest.raises(ValueError, match=r"images/a\.jpg and images/a\.png have the same name"):
        read_source(tmp_path)


def test_every_set_says_where_it_comes_from_and_the_page_says_so_too(
    request: pytest.FixtureRequest,
) -> None:
    page = (request.config.rootpath / "docs" / "data.md").read_text(encoding="utf-8")
    assert {public.name for public in PUBLISHED} < {layout.name for layout in SOURCES}
    for layout in SOURCES:
        assert f"`{layout.name}`" in page
        assert bool(layout.origin) == bool(layout.terms)
        assert layout.origin in page
        assert layout.terms in page


@pytest.mark.parametrize(
    ("folder", "name", "part", "num_images", "num_groups", "percent"),
    [
        ("chase_db1", "chase_db1", "all", 28, 14, 6.93),
        ("octa500_3m/OCTA-500", "octa500", "train", 60, 60, 6.44),
        ("octa500_3m/OCTA-500", "octa500", "val", 10, 10, 6.23),
        ("cimat_angios", "folder", "all", 40, 40, 5.54),
    ],
)
def test_real_sets(
    shared_dir: Path,
    folder: str,
    name: str,
    part: str,
    num_images: int,
    num_groups: int,
    percent: float,
) -> None:
    catalog = read_source(shared_dir / "data" / folder)
    assert catalog.source == name
    records = catalog.records
    if part != "all":
        records = tuple(r for r in records if r.case_id in parts(catalog)[part])
    assert (len(records), len(set(groups(records)))) == (num_images, num_groups)
    shares = [load_sample(record, phrase="x").masks.mean() for record in records]
    assert 100 * np.mean(shares) == pytest.approx(percent, abs=0.006)


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("octa500_3m", r"holds 2 data sets: OCTA-500/ \(octa500\), official_layout_sample_10301/"),
        ("arcade", r"holds 2 data sets: stenosis/ \(arcade\), syntax/ \(arcade\)\. Choose one: "),
        ("", r"holds \d data sets: .*chase_db1/ \(chase_db1\).*xa_dicom/ \(dicom\)"),
    ],
)
def test_a_real_folder_of_several_sets_names_them(shared_dir: Path, folder: str, told: str) -> None:
    with pytest.raises(FileNotFoundError, match=told):
        read_source(shared_dir / "data" / folder)


def test_real_octa_in_the_official_folders(shared_dir: Path) -> None:
    (record,) = read_source(shared_dir / "data/octa500_3m/official_layout_sample_10301").records
    sample = load_sample(record, phrase="x")
    shares = dict(zip(sample.phrases, sample.masks.mean((1, 2)).tolist(), strict=True))
    assert shares["capillary"] > shares["large blood vessel"] > shares["artery"] > 0
    artery, vein = sample.masks[1], sample.masks[2]
    assert artery.any()
    assert vein.any()


def test_real_fields_of_view_are_white_inside(shared_dir: Path) -> None:
    records = read_source(shared_dir / "data" / "chase_db1").records
    record = records[0]
    assert record.fov_path is not None
    fov = read_mask_image(record.fov_path)
    mask = load_sample(record, phrase="x").masks[0]
    assert fov[480, 500]
    assert not fov[0, 0]
    assert mask[fov].sum() / mask.sum() > 0.99
