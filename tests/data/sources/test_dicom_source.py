import json
import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image

from vasculora.core.types import Target
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_pictures, read_source, write_manifest

CINE = np.stack([np.full((16, 16), value, np.uint8) for value in (50, 100, 150, 200)])
NAME = "MUSTERMANN^ERIKA"


def draw_mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((16, 16), np.uint8)
    pixels[4:8] = 255
    Image.fromarray(pixels).save(path)


def test_a_folder_of_dicom_files(tmp_path, write_dicom):
    data = tmp_path / "cd"
    write_dicom(data / "DICOM" / "1.2.840.7", CINE, PatientName=NAME)
    write_dicom(data / "DICOM" / "1.2.840.8", CINE[0], PatientID="P 1")
    write_dicom(data / "b.dcm", CINE[:2], PatientID=None, StudyInstanceUID="1.2.3")
    write_dicom(data / "c.dcm", CINE[0], PatientID=None)
    write_dicom(data / "DICOMDIR", CINE[0], Rows=None, PixelData=None)
    shutil.copy(data / "b.dcm", data / "copy.dcm")
    (data / "autorun.txt").touch()
    (data / ".hidden.dcm").touch()
    catalog = read_source(data)
    assert (catalog.source, catalog.secret) == ("dicom", True)
    assert [record.frame for record in catalog.records] == [0, 1, 2, 3, None, 0, 1, None]
    assert not any(record.targets for record in catalog.records)
    cine = {record.case_id[:15] for record in catalog.records[:4]}
    assert len(cine) == 1
    assert [record.case_id[15:] for record in catalog.records[:5]] == [
        "_f000",
        "_f001",
        "_f002",
        "_f003",
        "",
    ]
    groups = [record.group for record in catalog.records]
    assert len(set(groups)) == 3
    assert len(set(groups[:5])) == 1
    for text in (
        "Data: 8 images, none of them annotated, in layout 'dicom'.",
        "Not used: 1 DICOM files that are no images: case_",
        "Not used: 1 copies of a file that is used: case_",
        "Not used: what is not DICOM, 1 in number.",
        "Groups: 3, from PatientID in 2 DICOM files and StudyInstanceUID in a DICOM file; 1 DICOM "
        "files that name no patient are a group each.",
    ):
        assert any(text in note for note in catalog.notes), (text, catalog.notes)
    assert not any("1.2.840" in note or "MUSTER" in note for note in catalog.notes)
    assert load_sample(catalog.records[2], phrase="x").image.mean() == 150
    assert load_sample(catalog.records[2], phrase="x").masks.shape == (0, 16, 16)


def test_the_size_of_a_pixel_is_that_in_the_patient(tmp_path, write_dicom):
    magnified = {"ImagerPixelSpacing": [0.3, 0.36], "EstimatedRadiographicMagnificationFactor": 1.2}
    write_dicom(tmp_path / "cd" / "a.dcm", CINE[0], **magnified)
    write_dicom(tmp_path / "cd" / "b.dcm", CINE[0], ImagerPixelSpacing=[0.3, 0.3])
    catalog = read_source(tmp_path / "cd")
    assert catalog.records[0].spacing == pytest.approx((0.25, 0.3))
    assert catalog.records[1].spacing is None
    assert "For scoring: the size of a pixel in mm (1 of 2 images)." in catalog.notes
    lines = [
        json.dumps({"image": "cd/a.dcm", "mask": None, **more})
        for more in ({}, {"case": "x", "group": "g", "spacing": [1, 2]})
    ]
    for line, expected in zip(lines, ((0.25, 0.3), (1, 2)), strict=True):
        (tmp_path / "set.jsonl").write_text(line)
        (record,) = read_source(tmp_path / "set.jsonl").records
        assert record.spacing == pytest.approx(expected)


def test_a_case_is_known_wherever_its_file_lies(tmp_path, write_dicom):
    first = write_dicom(tmp_path / "a" / "IM0", CINE)
    second = tmp_path / "b" / "sub" / "other.dcm"
    second.parent.mkdir(parents=True)
    shutil.copy(first, second)
    ids = [[r.case_id for r in read_source(path).records] for path in (first, second.parent)]
    assert ids[0] == ids[1]
    assert read_pictures(first).records == read_source(first).records


def test_different_files_with_the_same_id_are_both_kept(tmp_path, write_dicom):
    for name, pixels in (("a", CINE), ("b", CINE[::-1])):
        write_dicom(tmp_path / name, pixels, SOPInstanceUID="1.2.3")
    records = read_source(tmp_path).records
    assert len({record.case_id for record in records}) == 8


def test_text_in_the_pictures_is_warned_of(tmp_path, write_dicom):
    write_dicom(tmp_path / "a", CINE, BurnedInAnnotation="YES")
    notes = read_source(tmp_path).notes
    assert any(n.startswith("Warning: 1 files say that text is burned into") for n in notes)


def test_an_unreadable_file_stops_it(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "IM0", CINE)
    write_dicom(tmp_path / "IM1", CINE)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="IM0: ") as caught:
        read_source(tmp_path)
    assert "anew" in str(caught.value) or "is none" in str(caught.value)
    only = tmp_path / "reports"
    write_dicom(only / "SR", CINE, Rows=None, PixelData=None)
    with pytest.raises(ValueError, match="1 DICOM files, but none holds an image"):
        read_source(only)


def test_masks_beside_dicom(tmp_path, write_dicom):
    write_dicom(tmp_path / "images" / "1.2.840.7", CINE, PatientID="P1")
    write_dicom(tmp_path / "images" / "sub" / "b.dcm", CINE[1], PatientID="P2")
    write_dicom(tmp_path / "images" / "bare", CINE)
    for name in ("1.2.840.7_f001.png", "1.2.840.7_f003_mask.png", "sub/b.png", "bare_f009.png"):
        draw_mask(tmp_path / "masks" / name)
    catalog = read_source(tmp_path)
    assert (catalog.source, catalog.secret) == ("folder", True)
    assert [record.frame for record in catalog.records] == [1, 3, None]
    assert [load_sample(r, phrase="x").image[0, 0, 0] for r in catalog.records] == [100, 200, 100]
    assert all(load_sample(r, phrase="x").masks.sum() == 64 for r in catalog.records)
    groups = [record.group for record in catalog.records]
    assert groups[0] == groups[1] != groups[2]
    notes = " ".join(catalog.notes)
    for text in (
        "2 frames of DICOM files without a mask",
        "1 images without a mask: case_",
        "1 masks without an image: case_",
        "Groups: 2, from PatientID in 2 DICOM files.",
    ):
        assert text in notes
    assert "1.2.840" not in notes


def test_masks_in_the_same_folder(tmp_path, write_dicom):
    write_dicom(tmp_path / "a.dcm", CINE)
    draw_mask(tmp_path / "a_f002_gt.png")
    catalog = read_source(tmp_path)
    assert [(record.frame, catalog.source) for record in catalog.records] == [(2, "folder")]


def test_a_mask_must_say_its_frame(tmp_path, write_dicom):
    write_dicom(tmp_path / "images" / "a", CINE)
    draw_mask(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png does not say which of the 4 frames of a .*_f031"):
        read_source(tmp_path)


def test_a_manifest_of_dicom(tmp_path, write_dicom):
    write_dicom(tmp_path / "cd" / "a", CINE)
    write_dicom(tmp_path / "cd" / "b.dcm", CINE[0], PatientID="P2")
    draw_mask(tmp_path / "m.png")
    read = read_source(tmp_path / "cd").records
    masks = (Target(mask_path=tmp_path / "m.png"),)
    records = (read[1], type(read[2])(**{**vars(read[2]), "targets": masks}), read[4])
    path = tmp_path / "set.jsonl"
    with pytest.raises(ValueError, match="--keep-names"):
        write_manifest(path, records, private=True)
    write_manifest(path, records, private=True, keep_names=True)
    assert path.stat().st_mode & 0o777 == 0o600
    again = read_source(path)
    assert again.records == records
    assert '"frame": 1' in path.read_text()
    assert path.read_text().count('"mask"') == 1
    # One that names DICOM files alone is of the user's making: names are hidden, groups found.
    path.write_text('{"image": "cd/a", "frame": 3, "mask": "m.png"}\n{"image": "cd/b.dcm"}\n')
    own = read_source(path)
    assert own.secret
    assert [record.frame for record in own.records] == [3, None]
    assert [record.case_id for record in own.records] == [read[3].case_id, read[4].case_id]
    assert [record.group for record in own.records] == [read[3].group, read[4].group]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"image": "a", "mask": null}', 'line 1: .* holds 4 frames. Say which with "frame"'),
        ('{"image": "a", "frame": 4}', "line 1: .* has no frame 4; it holds 4, which count from 0"),
        ('{"image": "a", "frame": -1}', "'frame' must be a number from 0 on, got -1"),
        ('{"image": "a", "frame": true}', "'frame' must be a number from 0 on, got True"),
        ('{"image": "m.png", "frame": 0}', "frame 0 of 'm.png', but only DICOM files"),
        ('{"image": "a", "frame": 1}\n' * 2, "line 2: several lines .* not each has a mask"),
        ('{"image": "m.png", "mask": null}\n{"image": "m.png"}', "line 2: several lines"),
    ],
)
def test_a_wrong_line_about_a_frame(tmp_path, write_dicom, lines, message):
    write_dicom(tmp_path / "a", CINE)
    draw_mask(tmp_path / "m.png")
    path = tmp_path / "set.jsonl"
    path.write_text(lines)
    with pytest.raises(ValueError, match=message):
        read_source(path)


def test_real_files(shared_dir):
    catalog = read_source(shared_dir / "data" / "xa_dicom")
    frames = [record.frame for record in catalog.records]
    assert frames == [*range(96), None, *range(9), *range(8)]
    # The two phantom runs are of one patient, by the number in their headers.
    assert len({record.group for record in catalog.records}) == 3
    header = pydicom.dcmread(catalog.records[0].image_path, stop_before_pixels=True)
    told = " ".join((*catalog.notes, *(r.case_id + r.group for r in catalog.records)))
    for text in (str(header.PatientName), header.PatientID, header.SOPInstanceUID, "rubo"):
        assert text not in told


@pytest.mark.parametrize("listed", [False, True])
def test_annotated_files_that_claim_one_id_are_two_cases(tmp_path, write_dicom, listed):
    lines = []
    for value, name in enumerate("ab"):
        write_dicom(
            tmp_path / "images" / f"{name}.dcm", CINE[value], PatientID=name, SOPInstanceUID="1.2"
        )
        draw_mask(tmp_path / "masks" / f"{name}.png")
        lines.append(f'{{"image": "images/{name}.dcm", "mask": "masks/{name}.png"}}\n')
    (tmp_path / "set.jsonl").write_text("".join(lines))
    catalog = read_source(tmp_path / "set.jsonl" if listed else tmp_path)
    assert len({record.case_id for record in catalog.records}) == 2
    assert len(catalog.private_names) == 2
