import json

import numpy as np
import pytest

from vasculora.core.io import write_image
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source
from vasculora.metrics.ceiling import ceiling
from vasculora.model.processor import ProcessorConfig
from vasculora.recipes.reporting.summary import MOST_LOOKED, summarise
from vasculora.recipes.split import Looks

GRID = ProcessorConfig(mask_size=16, sam_size=64)


def stripes(path, sizes):
    """Records of images of some sizes (height, width); the nth has n rows of vessel."""
    for index, (height, width) in enumerate(sizes, start=1):
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[10 : 10 + index] = 255
        name = f"p{index // 2}_{index:02d}.png"
        write_image(path / "images" / name, np.full((height, width), 90, dtype=np.uint8))
        write_image(path / "masks" / name, mask)
    return read_source(path, group_regex=r"(p\d+)_").records


def test_parts_sizes_and_shares_are_counted(tmp_path):
    records = stripes(tmp_path, [(40, 50), (40, 50), (40, 50), (80, 50)])
    parts = {"train": records[:1], "val": records[1:], "test": ()}
    found = summarise(parts, GRID, scored="val", phrase="vessel")
    assert (found["num_images"], found["num_groups"]) == (4, 3)  # p0, p1, p1, p2
    assert found["parts"] == {
        "train": {"num_images": 1, "num_groups": 1},
        "val": {"num_images": 3, "num_groups": 2},
    }
    assert found["sizes"] == ["50 x 40 (2)", "50 x 80 (1)"]
    assert found["vessel_share"] == pytest.approx([2 / 40, 4 / 80, 3 / 40])
    assert found["num_looked"] == 3
    json.dumps(found)  # plain values


def test_what_was_seen_of_every_image_counts_before_a_few(tmp_path):
    records = stripes(tmp_path, [(40, 50)] * 4)
    looks = Looks(leaks="off")
    for record in records:
        looks.take(load_sample(record, phrase="vessel"))
    found = summarise(
        {"train": records[:2], "val": records[2:]}, GRID, scored="val", phrase="v", looks=looks
    )
    assert found["num_looked"] == 4
    assert found["vessel_share"] == pytest.approx([1 / 40, 2.5 / 40, 4 / 40])


def test_the_ceiling_is_that_of_the_scored_masks_by_the_run_s_rule(tmp_path):
    records = stripes(tmp_path, [(40, 50)] * 3)
    area = GRID.model_copy(update={"target": "area"})
    found = summarise({"train": records[:1], "val": records[1:]}, area, scored="val", phrase="v")
    alone = [
        ceiling(load_sample(record, phrase="v").masks[0], "area", grid=16, sam_size=64)
        for record in records[1:]
    ]
    assert found["ceiling"] == {
        "dice": pytest.approx(np.mean([one.dice for one in alone])),
        "cldice": pytest.approx(np.mean([one.cldice for one in alone])),
        "rule": "area",
        "num_masks": 2,
    }


def test_a_large_set_is_looked_at_in_a_few_places_and_its_frequent_sizes_told(tmp_path):
    sizes = [(40, 50)] * 9 + [(40, 51 + index) for index in range(9)]
    found = summarise({"all": stripes(tmp_path, sizes)}, GRID, scored="all", phrase="v")
    assert found["num_looked"] == found["ceiling"]["num_masks"] == MOST_LOOKED
    assert found["sizes"][0] == "50 x 40 (6)"
    assert found["sizes"][-1] == "others (3)"
    assert found["vessel_share"][2] == 18 / 40  # the last image too


def test_masks_without_a_pixel_have_no_ceiling(tmp_path):
    records = stripes(tmp_path, [(40, 50)])
    for path in (tmp_path / "masks").iterdir():
        write_image(path, np.zeros((40, 50), dtype=np.uint8))
    found = summarise({"all": records}, GRID, scored="all", phrase="v")
    assert found["ceiling"] is None
    assert found["vessel_share"] == [0, 0, 0]
