"""What tests share: a tiny base, drawn cases, a small data set on disk, the shared folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

# Shapes and types of every signature are checked; an int is a float, as in PEP 484. Not in
# engine/audit: it has no shapes and stands behind every call of torch, so that checking it would
# double its tests' time.
CHECKED = ("cli", "recipes", "data", "model", "losses", "metrics", "viz", "core")
CHECKED_OF_ENGINE = ("checkpoint", "evaluator", "loader", "optim", "sentinel", "standstill")
CHECKED_OF_ENGINE += ("tracker", "trainer", "tta")
install_import_hook(
    [
        *(f"vasculora.{room}" for room in CHECKED),
        *(f"vasculora.engine.{module}" for module in CHECKED_OF_ENGINE),
    ],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

from vasculora.core.runtime import set_seed
from vasculora.data.synthetic.export import write_dataset
from vasculora.data.synthetic.styles import all_phrases, draw_case
from vasculora.model.memory import Memory, write_memory
from vasculora.model.pretrained import open_model
from vasculora.model.prompts import PromptConfig
from vasculora.model.scratch import (
    ArchitectureConfig,
    build_from_scratch,
    processor_config,
    train_tokenizer,
)

TINY = ArchitectureConfig(
    vocab_size=320,
    tile_size=48,
    vision_width=32,
    vision_layers=1,
    text_width=32,
    text_layers=2,
    sam_size=64,
    sam_width=8,
    sam_blocks=(1, 1, 2, 1),
    decoder_width=32,
)

_LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
FAMILY_CONFIGS = {
    "internvl": {
        "vision_config": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "image_size": [48, 48],
            "patch_size": [12, 12],
            "attention_bias": True,
        },
        "text_config": _LANGUAGE | {"model_type": "qwen2"},
        "image_seq_length": 4,
        "tie_word_embeddings": False,
    },
    "qwen2_5_vl": {
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        "text_config": _LANGUAGE
        | {"rope_parameters": {"rope_theta": 1e6, "mrope_section": [1, 1, 2]}},
        "tie_word_embeddings": False,
    },
    "qwen3_vl": {
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 14,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        "text_config": _LANGUAGE
        | {
            "head_dim": 16,
            "rope_parameters": {
                "rope_theta": 5e6,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        "tie_word_embeddings": False,
    },
}
"""A tiny configuration of every family, but for its vocabulary and its image token."""


def pytest_addoption(parser):
    parser.addoption(
        "--shared",
        default="../shared",
        help="folder with real images (data/) and reference tensors (golden/)",
    )


@pytest.fixture(scope="session")
def shared_dir(request):
    """The folder of real images and reference tensors; its tests are skipped where it is absent."""
    path = Path(request.config.rootpath, request.config.getoption("--shared")).resolve()
    if not path.is_dir():
        pytest.skip(f"no shared folder at {path}; give one with --shared DIR")
    return path


@pytest.fixture(scope="session", autouse=True)
def own_config_dir(tmp_path_factory):
    """Keep keys of pseudonyms out of the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """The folder of a tiny base with random weights that always answers with [SEG]."""
    path = tmp_path_factory.mktemp("base")
    set_seed(0)
    prompt = PromptConfig()
    tokenizer = train_tokenizer(all_phrases(), prompt, vocab_size=TINY.vocab_size)
    model = build_from_scratch(TINY, tokenizer)
    tokenizer.save_pretrained(path)
    write_memory(path, Memory(processor=processor_config(TINY), prompt=prompt))
    model.save_pretrained(path, dtype=torch.float32)
    _teach_to_answer(path, model)
    return path


def _teach_to_answer(path, model):
    """Fit the text head alone, so that greedy decoding says the answer it is trained to say."""
    opened = open_model(path)
    samples = [draw("xray", index, size=48) for index in range(4)]
    batch = opened.processor.batch(samples)
    optimizer = torch.optim.Adam(model.mllm.parameters(), lr=3e-3)
    for _ in range(60):
        output = model(batch)
        loss = torch.nn.functional.cross_entropy(output.text_logits, output.text_labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path, dtype=torch.float32)


@pytest.fixture
def opened(tiny_base):
    """The tiny base, opened afresh: a test may change it."""
    return open_model(tiny_base)


def keep(sample, *phrases):
    """Return the case with some of its phrases only."""
    rows = [sample.phrases.index(phrase) for phrase in phrases]
    return replace(sample, masks=sample.masks[rows], phrases=phrases)


def draw(style, index, *, size=64):
    """Return a drawn case with all its phrases."""
    return draw_case(style, size=size, rng=np.random.default_rng(index), case_id=f"{style}{index}")


@pytest.fixture(scope="session")
def drawn_dir(tmp_path_factory):
    """Ten drawn angiograms of 64 pixels in the `folder` layout."""
    path = tmp_path_factory.mktemp("drawn")
    write_dataset(path / "set", style="xray", num=10, size=64, seed=3)
    return path / "set"


@pytest.fixture(scope="session")
def write_dicom():
    """Write a DICOM file: pixels (t) h w (3), any element by its keyword; None takes one out."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def write(path, pixels, *, syntax=ExplicitVRLittleEndian, encoded=None, **elements):
        pixels = np.asarray(pixels)
        coloured = pixels.ndim > 2 and pixels.shape[-1] == 3
        shape = pixels.shape[:-1] if coloured else pixels.shape
        bits = pixels.dtype.itemsize * 8
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1"
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
        ds.Modality, ds.PatientID = "XA", "P1"
        ds.Rows, ds.Columns = shape[-2:]
        ds.SamplesPerPixel = 3 if coloured else 1
        if coloured:
            ds.PlanarConfiguration = 0
        ds.PhotometricInterpretation = "RGB" if coloured else "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        if len(shape) > 2:
            ds.NumberOfFrames = shape[0]
        if encoded is None:
            ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
            ds["PixelData"].VR = "OW" if bits > 8 else "OB"
        else:
            ds.PixelData = encapsulate(list(encoded))
            ds["PixelData"].VR = "OB"
        for name, value in elements.items():
            if value is None:
                delattr(ds, name)
            else:
                setattr(ds, name, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        return path

    return write
