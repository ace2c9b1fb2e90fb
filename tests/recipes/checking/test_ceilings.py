import shutil

import numpy as np

from vasculora.core.io import read_mask_image, write_image
from vasculora.metrics.ceiling import ceiling
from vasculora.model.memory import read_memory, write_memory
from vasculora.recipes.checking.check import CheckConfig, check


def test_the_own_ceiling_goes_the_way_of_the_base(tmp_path, tiny_base, recorder):
    base = tmp_path / "boxed"
    shutil.copytree(tiny_base, base)
    memory = read_memory(base)
    processor = memory.processor.model_copy(update={"fit": "letterbox"})
    write_memory(base, memory.model_copy(update={"processor": processor}))
    mask = np.zeros((24, 96), dtype=np.uint8)
    mask[10:13, 5:90] = 255
    for name in "ab":
        picture = np.random.default_rng(ord(name)).integers(0, 256, mask.shape, dtype=np.uint8)
        write_image(tmp_path / "data" / f"{name}.png", picture)
        write_image(tmp_path / "data" / f"{name}_mask.png", mask)
    config = CheckConfig(data={"path": tmp_path / "data"}, model=str(base), num_ceilings=1)
    rows = check(config, report=recorder).ceilings
    truth = read_mask_image(tmp_path / "data" / "a_mask.png")
    sizes = {"grid": processor.mask_size, "sam_size": processor.sam_size}
    boxed = ceiling(truth, "area", fit="letterbox", **sizes).dice
    assert boxed != ceiling(truth, "area", **sizes).dice
    own = next(row for row in rows if row.own and row.rule == "area")
    assert own.dice == (boxed,)
