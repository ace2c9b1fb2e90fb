import numpy as np
import pytest
from PIL import Image

from vasculora import Predictor
from vasculora.recipes.config import PredictConfig
from vasculora.recipes.predict import predict


@pytest.fixture
def picture(tmp_path):
    """A grey picture that is neither square nor of the model's size."""
    path = tmp_path / "pictures" / "frame 12.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (50, 91), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def run(tiny_base, tmp_path, recorder):
    def call(*images, **changes):
        config = PredictConfig(model=str(tiny_base), **changes)
        return predict(config, images, tmp_path / "out", report=recorder)

    return call


def opened(path):
    return np.asarray(Image.open(path))


def test_three_pictures_at_the_image_s_own_size(run, picture, tmp_path, tiny_base):
    masks = run(picture)
    out = tmp_path / "out"
    assert masks == [out / "frame 12_mask.png"]
    names = {"frame 12_prob.png", "frame 12_mask.png", "frame 12_overlay.png"}
    assert {path.name for path in out.iterdir()} == names
    prob, mask, shown = (opened(out / f"frame 12_{k}.png") for k in ("prob", "mask", "overlay"))
    assert (prob.shape, mask.shape, shown.shape) == ((50, 91), (50, 91), (50, 91, 3))
    assert prob.dtype == mask.dtype == shown.dtype == np.uint8
    prediction = Predictor.from_pretrained(tiny_base)(picture)
    assert (prob == (prediction.prob * 255).round()).all()
    assert ((mask == 255) == prediction.mask).all()
    assert set(np.unique(mask)) <= {0, 255}
    outside = ~prediction.mask
    assert (shown[outside] == opened(picture)[outside][:, None]).all()


def test_a_folder_stands_for_its_images(run, picture, tmp_path):
    Image.open(picture).convert("RGB").save(picture.parent / "b.JPG")
    (picture.parent / "notes.txt").touch()
    (picture.parent / "._frame 12.png").write_bytes(b"macOS keeps its own notes in such files")
    masks = run(picture.parent)
    assert [path.name for path in masks] == ["b_mask.png", "frame 12_mask.png"]


def test_an_image_named_twice_is_predicted_once(run, picture):
    assert len(run(picture, picture)) == 1


def test_two_images_must_not_share_their_output(run, picture, tmp_path):
    other = tmp_path / "elsewhere" / "frame 12.jpg"
    other.parent.mkdir()
    Image.open(picture).save(other)
    with pytest.raises(ValueError, match=r"would both be written as frame 12_mask.png"):
        run(picture, other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["mask", "overlay"])
def test_what_somebody_drew_is_never_written_over(run, picture, tmp_path, kind):
    drawn = tmp_path / "out" / f"frame 12_{kind}.png"
    drawn.parent.mkdir()
    drawn.write_bytes(b"hours of work")
    with pytest.raises(ValueError, match=rf"frame 12_{kind}.png is there already and is none of"):
        run(picture)
    assert [path.name for path in drawn.parent.iterdir()] == [drawn.name]
    assert drawn.read_bytes() == b"hours of work"


def test_an_earlier_prediction_is_written_anew(run, picture, tmp_path):
    run(picture)
    (tmp_path / "out" / "frame 12_overlay.png").unlink()  # it may have been stopped
    run(picture, threshold=1e-6)
    assert (opened(tmp_path / "out" / "frame 12_mask.png") == 255).all()


def test_an_image_that_is_called_like_an_output_stays(run, picture, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "a_prob.png"):
        (folder / name).write_bytes(picture.read_bytes())
    with pytest.raises(ValueError, match=r"a_prob.png is an image that is to be segmented"):
        run(folder)
    assert len(list(folder.iterdir())) == 2


def test_the_phrase_and_the_threshold_can_be_others(run, picture, tmp_path):
    run(picture, phrase="冠状动脉", threshold=1e-6)
    assert (opened(tmp_path / "out" / "frame 12_mask.png") == 255).all()


def test_what_is_no_image_is_named(run, picture, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.png: no such image"):
        run(tmp_path / "gone.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images in this folder"):
        run(tmp_path / "empty")
    (picture.parent / "zz.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"zz.png: cannot be read as an image \(not a known"):
        run(picture.parent)
    assert (tmp_path / "out" / "frame 12_mask.png").exists()


def test_python_takes_a_picture_in_any_form(tiny_base, picture):
    predictor = Predictor.from_pretrained(tiny_base)
    grey = opened(picture)
    forms = (
        picture,
        str(picture),
        Image.open(picture),
        grey,
        np.repeat(grey[:, :, None], 3, axis=2),
    )
    predictions = [predictor(form, "blood vessel") for form in forms]
    first = predictions[0]
    assert (first.prob.dtype, first.prob.shape) == (np.float32, (50, 91))
    assert (first.mask.dtype, first.mask.shape) == (bool, (50, 91))
    assert 0 <= first.prob.min() <= first.prob.max() <= 1
    assert first.seg_found
    assert "[SEG]" in first.text
    assert all((p.prob == first.prob).all() for p in predictions)
    with pytest.raises(ValueError, match="expected an image of dtype uint8"):
        predictor(grey.astype(np.float32))
