"""The most memory that opening a checkpoint takes: the model and one shard, not all shards."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from tests.model.official import exporting
from tests.model.official.exporting import SAM2, internvl_config
from tests.model.weights.memory import Memory, watch_memory

from vasculora.model.sa2va import Sa2VA
from vasculora.model.weights.files import weight_files

pytestmark = pytest.mark.slow

MAX_SHARD = 5_000_000
LANGUAGE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 4000,
    "hidden_size": 256,
    "intermediate_size": 1024,
}
NOISE = 4_000_000
"""The model's Python objects, its tokenizer, and blocks that the allocator keeps: 0.5 MB were seen.

A ninth of the smallest checkpoint here, so a second copy of it is far beyond.
"""


FLOAT, HALF = torch.float32, torch.bfloat16


def write_checkpoint(folder, *, layers, stored):
    language = LANGUAGE | {"num_hidden_layers": layers}
    exporting.write_config(folder, internvl_config(language, {"qk_normalization": False}))
    exporting.write_tokenizer(folder)
    exporting.write_shards(folder, exporting.describe(folder), max_bytes=MAX_SHARD, dtype=stored)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small checkpoint, and a large one of each number format."""
    root = tmp_path_factory.mktemp("peak")
    small = write_checkpoint(root / "small", layers=1, stored=FLOAT)
    return {"small": small} | {
        stored: write_checkpoint(root / str(stored), layers=16, stored=stored)
        for stored in (FLOAT, HALF)
    }


@pytest.fixture(scope="module")
def newborn(folders):
    """A process that has opened a small checkpoint and nothing else, so all imports are done.

    One that thousands of tests have run in has its memory in tatters, and huge pages fill the gaps.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(open_watched, folders["small"], FLOAT).result()
        yield pool


def open_watched(folder, dtype) -> tuple[int, Memory]:
    """Return the model's bytes, and what opening it took."""
    with watch_memory() as memory:
        model = Sa2VA.from_pretrained(folder, sam2=SAM2, dtype=dtype, device="cpu")
    return sum(value.nbytes for value in [*model.parameters(), *model.buffers()]), memory


@pytest.mark.parametrize(("stored", "dtype"), [(FLOAT, FLOAT), (FLOAT, HALF), (HALF, FLOAT)])
def test_no_more_than_the_model_and_one_shard_is_in_memory(folders, newborn, stored, dtype):
    folder = folders[stored]
    sizes = [file.stat().st_size for file in weight_files(folder)]
    assert max(sizes) < 0.15 * sum(sizes)
    size, memory = newborn.submit(open_watched, folder, dtype).result()
    assert 0.9 * size < memory.anonymous < 1.15 * size + max(sizes) + NOISE
    # a shard stays mapped until the first tensor of the next is there
    assert memory.mapped < 2 * max(sizes) + NOISE
