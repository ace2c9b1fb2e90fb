import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.conftest import TINY

from vasculora.metrics.panel import METRICS
from vasculora.model.lora import LoraSettings
from vasculora.model.memory import Memory, write_memory
from vasculora.model.prompts import PromptConfig
from vasculora.model.scratch import processor_config
from vasculora.recipes.config import DataConfig, FinetuneConfig, Provenance
from vasculora.recipes.reporting.card import write_card

SECRET = Path("/home/alice/Smith^John/angiograms")
AUDIT = {
    "ok": True,
    "verdict": "Everything that should learn does.",
    "num_touched": 900,
    "num_parameters": 1000,
}
SUMMARY = {
    "num_images": 40,
    "num_groups": 10,
    "parts": {
        "train": {"num_images": 32, "num_groups": 8},
        "val": {"num_images": 8, "num_groups": 2},
    },
    "sizes": ["512 x 512 (38)", "256 x 512 (2)"],
    "vessel_share": [0.05, 0.081, 0.12],
    "num_looked": 8,
    "ceiling": {"dice": 0.93, "cldice": 0.95, "rule": "full", "num_masks": 8},
}


def interval(mean, low, high):
    return {"mean": mean, "low": low, "high": high, "num_cases": 8, "num_groups": 8}


def an_evaluation(**changes):
    means = dict.fromkeys(METRICS) | {"dice": 0.7136571, "iou": 0.56, "hd95": 12.3456}
    half, before = {"dice": 0.7, "iou": 0.54}, {"dice": 0.432, "iou": 0.3}
    paired = {
        "difference": interval(0.268, 0.2, 0.33),
        "p_value": 0.01,
        "effect": 1.0,
        "improved": 1.0,
        "num_improved": 8,
        "verdict": "better",
    }
    untouched = {
        "name": "untouched model",
        "kind": "untouched",
        "mean": before,
        "interval": {"dice": interval(0.432, 0.38, 0.48)},
        "threshold": 0.5,
        "paired": {"dice": paired},
    }
    whole = {
        "model": "runs/first",
        "against": None,
        "data": "angiograms",
        "split": "val",
        "num_cases": 8,
        "num_groups": 8,
        "threshold": 0.45,
        "seg_rate": 1.0,
        "num_absent": 0,
        "false_mask_rate": None,
        "prompt_sensitivity": None,
        "truth_sensitivity": None,
        "is_deaf": False,
        "num_trained_on": 0,
        "mean": means,
        "num_defined": dict.fromkeys(METRICS, 8),
        "interval": dict.fromkeys(METRICS) | {"dice": interval(0.714, 0.65, 0.77)},
        "at_half": half,
        "teacher_forced": None,
        "sweep": {"thresholds": [0.45, 0.5], "dice": [0.714, 0.7], "best": 0.45},
        "comparisons": [untouched],
        "groups": [],
        "cases": [],
    }
    return whole | changes


def a_run(tmp_path, *, model="nano", phrase="blood vessel", **lora):
    """Settings of a run, and its adapter's folder with what it remembers."""
    processor = processor_config(TINY).model_copy(update={"threshold": 0.45})
    prompt = PromptConfig(phrase=phrase)
    learnt = ("mllm_lora", "projector")
    memory = Memory(
        processor=processor, prompt=prompt, base=model, fingerprint="abc", trainable=learnt
    )
    write_memory(tmp_path / "adapter", memory)
    provenance = Provenance(
        command=f"vasculora finetune --data {SECRET}",
        versions={"vasculora": "0.1.0", "torch": "2.13.0"},
        base_fingerprint="abc",
        data_fingerprint="def",
    )
    config = FinetuneConfig(
        model=model,
        data=DataConfig(path=SECRET, group_regex="(Smith)"),
        lora=LoraSettings(trainable=learnt, **lora),
        provenance=provenance,
    )
    return tmp_path / "adapter", config


def written(adapter, config, **changes):
    path = write_card(
        adapter,
        config=config,
        evaluation=an_evaluation(**changes),
        audit=AUDIT,
        summary=SUMMARY,
        metrics={"best": {"epoch": 7, "val_dice": 0.71}},
    )
    return ModelCard.load(path)


def cells_of(line):
    return re.split(r"(?<!\\)\|", line)


def test_the_hub_reads_back_what_the_adapter_is_and_how_good(tmp_path):
    data = written(*a_run(tmp_path, model="hf://ByteDance/Sa2VA-1B@main")).data
    assert (data.library_name, data.pipeline_tag) == ("peft", "image-segmentation")
    assert data.base_model == "ByteDance/Sa2VA-1B"
    assert data.license is None
    assert {"vasculora", "lora"} <= set(data.tags)
    found = {result.metric_type: result for result in data.eval_results}
    assert list(found) == ["dice", "iou", "hd95"]  # what was not defined is not reported
    assert (found["dice"].metric_value, found["dice"].dataset_split) == (0.7137, "val")
    assert found["dice"].metric_args == {"threshold": 0.45}
    assert found["hd95"].metric_name == "HD95 (px)"


def test_the_text_says_how_to_use_it_and_what_was_found(tmp_path):
    text = written(*a_run(tmp_path, rank=16)).text
    assert 'Predictor.from_pretrained("my-run")("image.png", "blood vessel")' in text
    assert "vasculora predict my-run image.png --phrase 'blood vessel' --out masks" in text
    assert r"Val Dice rose from 0.432 \[0.38, 0.48\] to 0.700 in" in text
    assert "8 of 8 cases improved" in text
    dice = next(line for line in text.splitlines() if line.startswith("| Dice"))
    assert cells_of(dice)[2].strip() == r"0.714 \[0.650, 0.770\]"
    assert "above a probability of 0.45, the best of those tried" in text
    assert "| LoRA | rank 16, alpha 128, dropout 0.05 |" in text
    assert "of which 7 was the best" in text
    assert "900 of 1,000 trainable weights (90.0%)" in text
    assert "32 (8) train" in text
    assert "no medical device" in text
    assert "license:" in text


@pytest.mark.parametrize("model", ["nano", "/home/alice/bases/mine", "runs/first"])
def test_neither_the_data_nor_a_folder_s_place_is_in_it(tmp_path, model):
    adapter, config = a_run(tmp_path, model=model)
    card = written(adapter, config, data="PRIVATE")
    assert card.data.base_model is None
    for word in ("alice", "Smith", "angiograms", "PRIVATE", "runs/", str(tmp_path)):
        assert word not in str(card)
    assert card.data.eval_results[0].dataset_name == "private images"
    # an adapter of a folder opens elsewhere only when it is told where that is
    assert ("`vasculora.json` names the place" in card.text) == (model != "nano")


def test_nothing_in_a_phrase_breaks_table_or_code(tmp_path):
    phrase = "left | `LAD` <b> \"x\" 'y'\n```"
    adapter, config = a_run(tmp_path, phrase=phrase, target_modules="a|b")
    card = written(adapter, config)
    tables = re.findall(r"(?:^\|.*\n)+", card.text, flags=re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        assert len({len(cells_of(line)) for line in table.splitlines()}) == 1
    assert r"| LoRA in the language model | a\|b |" in card.text
    code = card.text.split("```python\n")[1].split("\n```")[0]
    asked = compile(code, "card", "exec").co_consts
    assert phrase.replace("\n", " ") in asked
    assert card.data.model_name == f"nano, {phrase}".replace("\n", " ")


def test_what_is_not_known_is_not_made_up(tmp_path):
    adapter, config = a_run(tmp_path)
    means = dict.fromkeys(METRICS) | {"dice": 0.5}
    path = write_card(
        adapter,
        config=config.model_copy(update={"provenance": None}),
        evaluation=an_evaluation(mean=means, comparisons=[], sweep=None, at_half=None),
        audit=None,
        summary=None,
    )
    text = path.read_text()
    assert "untouched" not in text
    assert "best of those tried" not in text
    assert text.count("Not described.") == text.count("Not looked at.") == 1
