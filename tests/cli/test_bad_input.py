"""What the program says to bad input: one clear message, and nothing is touched."""

import json
import re
import shutil

import numpy as np
import pytest
from tests.cli.telling import refusal, run

from vasculora.core.io import write_image


@pytest.fixture(scope="module")
def here(tmp_path_factory, drawn_dir, tiny_base):
    """Everything that bad input can be; nothing may change it."""
    path = tmp_path_factory.mktemp("here")
    (path / "unpaired").mkdir()
    shutil.copy(drawn_dir / "images" / "0000.png", path / "unpaired" / "a.png")
    for name in ("torn", "cut", "twice"):
        shutil.copytree(drawn_dir, path / name)
    (path / "torn" / "images" / "0003.png").write_bytes(b"junk")
    write_image(path / "cut" / "masks" / "0004.png", np.zeros((7, 9), dtype=np.uint8))
    shutil.copy(drawn_dir / "images" / "0002.png", path / "twice" / "images" / "0007.png")
    parts = {"train": [f"000{i}" for i in range(7)], "val": ["0007", "0008", "0009"]}
    (path / "twice" / "split.json").write_text(json.dumps(parts))
    (path / "full").mkdir()
    (path / "full" / "mine.txt").touch()
    (path / "bad.yaml").write_text("trainer:\n  epoch: 3\n")
    (path / "file").touch()
    shutil.copytree(tiny_base, path / "damaged")
    weights = path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return path


FINETUNE = "finetune --model {base} --data {data} --out {out}"
BAD = {
    "finetune --model {base} --data {here}/gone --out {out}": "gone: no such folder. Give the",
    "finetune --model {base} --data {here}/file --out {out}": "file: is a file, not a folder.",
    "finetune --model {base} --data {here}/unpaired --out {out}": "no data set recognised.",
    "finetune --model {base} --data {here}/torn --out {out}": "0003.png: cannot be read as an",
    "finetune --model {base} --data {here}/cut --out {out}": "0004: mask is 9x7 but image is 64x64",
    "finetune --model {base} --out {out}": "data needs a value. Give --data,",
    "finetune --model {here}/gone --data {data} --out {out}": "gone: no such model. Give `nano`",
    "finetune --model {data} --data {data} --out {out}": "expected a base model (with config.json)",
    "finetune --model {here}/damaged --data {data} --out {out}": "model.safetensors: is damaged or",
    "finetune --model {base} --data {data} --out {here}/full": "is not empty. Take up the run in",
    "finetune --model {base} --data {data} --out {here}/file": "is not empty. Take up the run in",
    "finetune --model {base} --data {data} --out {here}/file/a": "cannot be made",
    "finetune --model {base} --data {data} --out {data}/run": "lies inside the data folder",
    "finetune --out {out} --resume": "no run to resume (no config.yaml). Check --out.",
    f"{FINETUNE} --gpu 3": "--gpu 3 was asked for, but PyTorch",
    f"{FINETUNE} --preset heavy": "unknown preset 'heavy'. Known: grounding_lora, light, official,",
    f"{FINETUNE} --trainable sam": "unknown trainable group sam. Known: mllm_lora,",
    f"{FINETUNE} --split-by date": "data.split_by: expected 'group' or 'sorted', got 'date'",
    f"{FINETUNE} --fold 2-5": "data.fold: expected FOLD/FOLDS, as in 2/5, got '2-5'.",
    f"{FINETUNE} --fold 0/5": "data.fold: there is no fold 0 of 5. Folds count from 1 to 5.",
    f"{FINETUNE} --fold 6/5": "data.fold: there is no fold 6 of 5.",
    f"{FINETUNE} --fold 1/11": "11 folds were asked for, but the 10 images belong to 10 groups",
    f"{FINETUNE} --fold 1/5 --split-by sorted": "data: fold 1/5 is a fold of groups, but split_by",
    "finetune --model {base} --data {here}/twice --out {out}": "0007 (val), correlation 1.00",
    "audit --model {base} --data {data} --fold 2": "data.fold: expected FOLD/FOLDS, as in 2/5",
    f"{FINETUNE} --group-regex x(y)": "the group pattern 'x(y)' finds no group in '0000'",
    f"{FINETUNE} --config {{here}}/bad.yaml": "Did you mean 'trainer.epochs'?",
    f"{FINETUNE} --config {{here}}/gone.yaml": "gone.yaml: no such settings file.",
    f"{FINETUNE} --set optim.rate=1": "unknown key 'optim.rate'. Known: optim.lr,",
    f"{FINETUNE} --set trainer.epochs=many": "trainer.epochs: expected a valid integer, got 'many'",
    f"{FINETUNE} --set seed=-1": "seed: expected greater than or equal to 0, got -1",
    f"{FINETUNE} --set seed=4294967296": "seed: expected less than 4294967296, got 4294967296",
    "data synth {out} --seed -1": "seed: expected greater than or equal to 0, got -1",
    f"{FINETUNE} --epochs 0": "trainer.epochs: expected greater than or equal to 1, got 0",
    f"{FINETUNE} --epochs many": "Invalid value for '--epochs'",
    f"{FINETUNE} --epoch 3": "No such option: --epoch",
    "finetune --model {base} --data {data}": "Missing option '--out'",
    "audit --model {here}/gone --data {data}": "gone: no such model. Give `nano`",
    "audit --model {base}": "data needs a value. Give --data,",
    "audit --model {base} --data {here}/cut --json": "0004: mask is 9x7 but image is 64x64",
    "audit --model {base} --data {data} --out {data}/a": "lies inside the data folder",
    "evaluate {base} --data {data} --split dev --out {out}": "expected 'train', 'val', 'test' or",
    "evaluate {base} --data {here}/gone --out {out}": "gone: no such folder.",
    "evaluate {base} --data {data} --out {data}": "lies inside the data folder",
    "predict {base} {here}/gone.png --out {out}": "gone.png: no such image.",
    "predict {here}/gone {here}/cut/images --out {out}": "gone: no such model.",
    "predict {base} {here}/torn/images/0003.png --out {out}": "0003.png: cannot be read as an",
    "data synth {out} --style mri": "style: expected 'xray', 'fundus' or 'octa', got 'mri'",
    "data synth {here}/full": "is not an empty folder",
    "demo --out {here}/full": "holds mine.txt, which no demo makes",
    "pretrain --out {here}/full": "is not empty. Choose another --out",
}


@pytest.mark.parametrize("words", BAD, ids=lambda words: re.sub(r"\{(\w+)\}", r"\1", words))
def test_bad_input_is_one_clear_message(words, here, tmp_path, tiny_base, drawn_dir):
    places = {"here": here, "base": tiny_base, "data": drawn_dir, "out": tmp_path / "out"}
    before = times_of(here, drawn_dir)
    message = refusal(run(*(word.format(**places) for word in words.split(" "))))
    assert BAD[words] in re.sub(r"[│ ]+", " ", message)
    assert times_of(here, drawn_dir) == before


def times_of(*folders):
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}
