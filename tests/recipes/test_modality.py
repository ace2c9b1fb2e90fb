from pathlib import Path

import pytest
from pydantic import ValidationError

from vasculora.data.sources import read_source
from vasculora.data.synthetic.export import write_dataset
from vasculora.recipes.config import DataConfig, FinetuneConfig
from vasculora.recipes.modality import settle_modality

STYLES = ("xray", "fundus", "octa")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn")
    for style in STYLES:
        write_dataset(path / style, style=style, num=3, size=96, seed=1)
    return path


def settled(path, recorder, **data):
    config = FinetuneConfig(data=DataConfig(path=path, **data))
    records = read_source(path).records
    return settle_modality(config, records, phrase="vessel", report=recorder).data.modality


@pytest.mark.parametrize("style", STYLES)
def test_the_kind_is_seen_in_the_images_and_said(style, drawn, recorder):
    assert settled(drawn / style, recorder, augment="strong") == style
    (note,) = recorder.notes
    assert note.startswith("Augmentation: the images look like ")
    assert f"data.modality={'|'.join(kind for kind in STYLES if kind != style)}" in note


def test_what_is_said_is_not_guessed_and_what_is_not_needed_neither(drawn, recorder):
    assert settled(drawn / "octa", recorder, augment="strong", modality="xray") == "xray"
    assert settled(drawn / "octa", recorder, augment="light") == "auto"
    assert settled(drawn / "octa", recorder, augment="none") == "auto"
    assert recorder.notes == []


@pytest.mark.parametrize("level", ["light", "none"])
def test_a_kind_that_would_change_nothing_is_refused(level):
    with pytest.raises(ValidationError, match="only says how augment 'strong' varies light"):
        DataConfig(path=Path("data"), augment=level, modality="octa")
