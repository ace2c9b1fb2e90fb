import io
from itertools import pairwise

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels.decoders import JPEGLosslessSV1Decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from vasculora.core.dicom import frames_of, num_frames, read_dicom_frame, shown_by
from vasculora.core.dicom_file import is_dicom, read_header
from vasculora.core.io import read_image

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
CINE = np.stack([RAMP, RAMP[::-1], 250 - RAMP])


def grey(path, frame=None):
    image = read_dicom_frame(path, frame)
    assert image.dtype == np.uint8
    assert (image == image[..., :1]).all()
    return image[..., 0]


@pytest.mark.parametrize(
    "syntax",
    [None, ImplicitVRLittleEndian, RLELossless],
)
def test_every_encoding_gives_the_same_frames(tmp_path, write_dicom, syntax):
    path = write_dicom(tmp_path / "IM0", CINE)
    if syntax == RLELossless:
        ds = pydicom.dcmread(path)
        ds.compress(RLELossless)
        ds.save_as(path)
    elif syntax is not None:
        write_dicom(path, CINE, syntax=syntax)
    assert num_frames(path) == 3
    frames = list(frames_of(path))
    for number in range(3):
        assert (grey(path, number) == CINE[number]).all()
        assert (frames[number][..., 0] == CINE[number]).all()
    assert shown_by(path) == "the full range of its bits"


def test_big_endian_of_16_bit(tmp_path, write_dicom):
    values = (CINE.astype(np.uint16) * 257).astype(">u2")
    path = write_dicom(tmp_path / "a.dcm", values, syntax=ExplicitVRBigEndian)
    assert (grey(path, 2) == CINE[2]).all()


def test_jpeg_baseline_in_grey_and_colour(tmp_path, write_dicom):
    smooth = np.add.outer(np.arange(32), np.arange(40)).astype(np.uint8) * 3
    colour = np.stack([smooth, 255 - smooth, np.full_like(smooth, 90)], axis=2)
    for pixels, kind in ((smooth, "MONOCHROME2"), (colour, "YBR_FULL_422")):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        path = write_dicom(
            tmp_path / kind,
            pixels,
            syntax=JPEGBaseline8Bit,
            encoded=[buffer.getvalue()],
            PhotometricInterpretation=kind,
        )
        wanted = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
        assert np.abs(read_image(path).astype(int) - wanted).max() <= 4
    assert shown_by(path) == "its colours"


def test_a_file_without_preamble_is_known_by_its_suffix(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "IM0", CINE, syntax=ImplicitVRLittleEndian)
    ds = pydicom.dcmread(path)
    bare = pydicom.Dataset(ds)
    for name, known in (("x.DCM", True), ("x", False)):
        bare.save_as(tmp_path / name, implicit_vr=True, little_endian=True)
        assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
        assert is_dicom(tmp_path / name) == known
    assert (grey(tmp_path / "x.DCM", 1) == CINE[1]).all()
    assert is_dicom(path)
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "gone.dcm")


def test_what_may_not_be_shown_as_it_is_stored(tmp_path, write_dicom):
    inverted = write_dicom(tmp_path / "1", RAMP, PhotometricInterpretation="MONOCHROME1")
    assert (grey(inverted) == 255 - RAMP).all()
    stored = RAMP.astype(np.uint16) * 16  # 12 of 16 bits: 0 to 4095
    twelve = write_dicom(tmp_path / "2", stored, BitsStored=12, HighBit=11)
    assert (grey(twelve) == np.round(stored / 4095 * 255)).all()
    signed = write_dicom(tmp_path / "3", stored.astype(np.int16) - 2048, BitsStored=12, HighBit=11)
    assert (grey(signed) == grey(twelve)).all()
    falling = write_dicom(tmp_path / "4", RAMP, RescaleSlope=-1, RescaleIntercept=255)
    assert (grey(falling) == 255 - RAMP).all()
    # An angiogram's rescaling leads back to intensities and is not for display.
    log = {"PixelIntensityRelationship": "LOG"}
    logarithm = write_dicom(tmp_path / "5", RAMP, RescaleSlope=-1, RescaleIntercept=255, **log)
    assert (grey(logarithm) == RAMP).all()


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        # By hand, of center 100 and width 100: the share ((x - 99.5) / 99 + 0.5), cut at 0 and 1;
        # then (x - 100) / 100 + 0.5; then 1 / (1 + exp(-4 (x - 100) / 100)).
        ("LINEAR", {45: 0, 50: 0, 75: 64, 100: 129, 125: 193, 150: 255, 155: 255}),
        ("LINEAR_EXACT", {45: 0, 50: 0, 75: 64, 100: 128, 125: 191, 150: 255, 155: 255}),
        ("SIGMOID", {50: 30, 75: 69, 100: 128, 125: 186, 150: 225}),
    ],
)
def test_the_window_of_the_file(tmp_path, write_dicom, function, wanted):
    pixels = np.linspace(60, 140, 48).astype(np.uint8).reshape(6, 8)
    pixels[0, :7] = [45, 50, 75, 100, 125, 150, 155]
    window = {"WindowCenter": [100, 40], "WindowWidth": [100, 400]}
    path = write_dicom(tmp_path / "a", pixels, VOILUTFunction=function, **window)
    shown = dict(zip(pixels[0].tolist(), grey(path)[0].tolist(), strict=True))
    assert {value: shown[value] for value in wanted} == wanted
    assert shown_by(path) == "its window"


def test_a_window_that_hides_the_picture_is_not_taken(tmp_path, write_dicom):
    for number, (center, width) in enumerate(((3000, 100), (128, 0), (20, 30), (500, 4000))):
        path = write_dicom(tmp_path / str(number), RAMP, WindowCenter=center, WindowWidth=width)
        assert (grey(path) == RAMP).all()
        assert shown_by(path) == "the full range of its bits"
    # All frames are shown alike, also those that the window would cut.
    path = write_dicom(
        tmp_path / "c", np.stack([RAMP // 4, RAMP, RAMP]), WindowCenter=140, WindowWidth=200
    )
    assert shown_by(path) == "its window"
    assert grey(path, 0).max() < 30


def test_tables_of_a_file(tmp_path, write_dicom):
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 12]
    table["LUTDescriptor"].VR = "US"
    table.LUTData = np.linspace(4095, 0, 256).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    voi = write_dicom(tmp_path / "voi", RAMP, VOILUTSequence=[table])
    assert np.abs(grey(voi).astype(int) - (255 - RAMP)).max() <= 1
    modality = write_dicom(tmp_path / "modality", RAMP, ModalityLUTSequence=[table])
    assert np.abs(grey(modality).astype(int) - (255 - RAMP)).max() <= 1


def test_colours(tmp_path, write_dicom):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    plain = write_dicom(tmp_path / "1", rgb)
    assert (read_dicom_frame(plain, 1) == rgb[1]).all()
    planes = np.moveaxis(rgb, -1, 1)
    planar = write_dicom(tmp_path / "2", rgb, PlanarConfiguration=1, PixelData=planes.tobytes())
    assert (read_dicom_frame(planar, 1) == rgb[1]).all()
    ybr = np.asarray(Image.fromarray(rgb[0]).convert("YCbCr"))
    full = write_dicom(tmp_path / "3", ybr, PhotometricInterpretation="YBR_FULL")
    wanted = np.asarray(Image.fromarray(ybr, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(read_dicom_frame(full).astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("factor", [1, 257])
def test_a_palette(tmp_path, write_dicom, factor):
    colours = np.random.default_rng(0).integers(0, 256, (256, 3))
    names = ("Red", "Green", "Blue")
    elements = {f"{n}PaletteColorLookupTableDescriptor": [256, 0, 16] for n in names}
    for number, name in enumerate(names):
        data = (colours[:, number] * factor).astype("<u2").tobytes()
        elements[f"{name}PaletteColorLookupTableData"] = data
    path = write_dicom(tmp_path / "p", RAMP, PhotometricInterpretation="PALETTE COLOR", **elements)
    assert (read_dicom_frame(path) == colours[RAMP]).all()
    wide = {"PhotometricInterpretation": "PALETTE COLOR", "BitsStored": 8, "HighBit": 7}
    path = write_dicom(tmp_path / "w", RAMP.astype(np.uint16) * 2, **wide, **elements)
    with pytest.raises(ValueError, match="has values from 0 to 470, but 8 bits stored hold"):
        read_dicom_frame(path)


def test_a_cine_with_fewer_frames_than_it_says(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "a", CINE)
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless)
    ds.NumberOfFrames = 5
    ds.save_as(path)
    with pytest.raises(ValueError, match=r"frame 3 of .* holds 3 frames instead of 5"):
        list(frames_of(path))


def test_whose_a_file_is(tmp_path, write_dicom):
    def header(name, **elements):
        return read_header(write_dicom(tmp_path / name, RAMP, **elements))

    named = {"PatientName": "Huber^Max", "PatientBirthDate": "19500101", "StudyInstanceUID": "1.2"}
    assert header("a", **named).patient_by == "PatientID"
    assert header("b", PatientID="p 1").patient == header("c", PatientID="P1").patient
    by_name = header("d", PatientID=None, **named)
    assert by_name.patient_by == "PatientName and PatientBirthDate"
    assert by_name.patient == header("e", PatientID="", **named | {"StudyInstanceUID": "3"}).patient
    without = named | {"PatientName": ""}
    assert header("f", PatientID=None, **without).patient == "study 1.2"
    assert header("g", PatientID=None).patient_by == "nothing"
    assert header("h", BurnedInAnnotation="YES").burned_in
    report = write_dicom(tmp_path / "i", RAMP, Rows=None, PixelData=None)
    assert read_header(report).num_frames == 0
    with pytest.raises(ValueError, match="is DICOM but no image"):
        read_dicom_frame(report)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


def test_a_broken_file_is_named_with_its_cure(tmp_path, write_dicom):
    def write(name, pixels=CINE, **elements):
        return write_dicom(tmp_path / name, pixels, **elements)

    bad_jpeg = {"syntax": JPEGBaseline8Bit, "encoded": [b"junk"] * 3}
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "noise.dcm").write_bytes(np.random.default_rng(0).bytes(3000))
    (tmp_path / "text.dcm").write_text("Dear colleague, " * 100)
    broken = [
        (tmp_path / "empty.dcm", "cannot be read as DICOM|so it is none, or cut off"),
        (tmp_path / "noise.dcm", "cannot be read as DICOM|so it is none, or cut off"),
        (tmp_path / "text.dcm", "cannot be read as DICOM|so it is none, or cut off"),
        (cut(write("a"), 140), "cannot be read as DICOM|so it is none, or cut off"),
        (cut(write("b"), -48), "frame 2 of it cannot be read as DICOM"),
        (write("c", PixelData=None), "but the file has|cannot be read as DICOM"),
        (write("d", **bad_jpeg), "frame 2 of it cannot be read as DICOM"),
        (write("e", NumberOfFrames=10**6), "need 48000000 bytes"),
        (write("f", Rows=60000, Columns=60000), "larger than 175 million pixels"),
        (
            write("g", BitsStored=4, HighBit=3),
            "has values from 15 to 250, but 4 bits stored hold 0 to 15",
        ),
        (write("z", syntax=DeflatedExplicitVRLittleEndian), r"is a zipped \(deflated\) DICOM"),
        (write("h", BitsAllocated=32, BitsStored=32), "32 bits stored in 32"),
        (write("i", PhotometricInterpretation="CMYK"), "its pixels are 'CMYK'"),
        (write("j", PhotometricInterpretation=None), "cannot be read as DICOM"),
        (write("m", PixelRepresentation=None), "cannot be read as DICOM"),
        (write("k", Columns=0), "3 frames of 0x6"),
        (write("l", CINE.astype(np.uint16) * 4), "probably 10 or 12 bits are meant"),
    ]
    for path, message in broken:
        with pytest.raises(ValueError, match=message) as caught:
            read_dicom_frame(path, 2)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"gone\.dcm: no such DICOM file"):
        read_dicom_frame(tmp_path / "gone.dcm")


def test_a_frame_must_be_there_and_be_named(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "IM0", CINE)
    with pytest.raises(ValueError, match=r"holds 3 frames\. Say which: --frames 0 to 2"):
        read_image(path)
    with pytest.raises(ValueError, match="has no frame 3; it holds 3, which count from 0 to 2"):
        read_image(path, 3)
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="only DICOM files and NumPy archives hold frames"):
        read_image(tmp_path / "a.png", 0)


def test_a_changed_file_is_read_anew(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "IM0", CINE)
    assert num_frames(path) == 3
    write_dicom(path, CINE[:2])
    assert num_frames(path) == 2


def test_a_missing_decoder_is_named_with_its_command(shared_dir):
    path = shared_dir / "data" / "xa_dicom" / "vukicevic_phantom" / "IM8"
    decoder = JPEGLosslessSV1Decoder
    plugins = {name: decoder._available.pop(name) for name in tuple(decoder._available)}
    try:
        with pytest.raises(ValueError, match=r"\(GPL-3\): pip install 'vasculora\[jpeg\]'"):
            read_dicom_frame(path, 0)
    finally:
        decoder._available.update(plugins)


@pytest.mark.parametrize(
    ("name", "count", "how", "means"),
    [
        ("rubo/0002.DCM", 96, "the full range of its bits", (81.54, 85.32, 67.27)),
        ("rubo/0015.DCM", 1, "its window", (79.08,)),
        ("vukicevic_phantom/IM6", 9, "its window", (102.02, 101.96, 101.98)),
        ("vukicevic_phantom/IM8", 8, "its window", (102.22, 102.16, 102.24)),
    ],
)
def test_real_files(shared_dir, name, count, how, means):
    path = shared_dir / "data" / "xa_dicom" / name
    assert is_dicom(path)
    assert (num_frames(path), shown_by(path)) == (count, how)
    frames = [frame[::4, ::4, 0].astype(int) for frame in frames_of(path)]
    assert len(frames) == count
    chosen = (None,) if count == 1 else (0, 1, count - 1)
    assert [read_dicom_frame(path, k).mean() for k in chosen] == pytest.approx(means, abs=0.006)
    # Neighbouring frames are more alike than the ends.
    near = [np.abs(a - b).mean() for a, b in pairwise(frames)]
    assert not near or np.median(near) < np.abs(frames[0] - frames[-1]).mean()
    for k in range(0, count, 40):
        alone = read_dicom_frame(path, k if count > 1 else None)[::4, ::4, 0]
        assert (alone == frames[k]).all()
