"""The audit of a run's first batch: what it says, what it leaves alone, and how a run obeys it."""

import copy
import json
import re
import shutil

import pytest
import torch
from tests.model.test_sensitivity import deafen, mute
from transformers import Sam2VideoConfig, Sam2VideoModel

from vasculora.core.errors import CannotLearnError, DeadGradientError
from vasculora.core.io import read_json
from vasculora.core.runtime import build_accelerator, pick_device
from vasculora.engine.audit.report import COLUMNS
from vasculora.model.lora import LoraSettings, attach
from vasculora.model.pretrained import open_model
from vasculora.recipes.audit import audit, audit_first_batch, show
from vasculora.recipes.finetune import finetune
from vasculora.recipes.run_folder import read_data
from vasculora.recipes.setup import build_trainer, open_base, samples_of, tell_attached

EVERYTHING = ["mllm_lora", "projector", "mask_decoder", "grounding_lora", "connector", "seg_token"]
LEFT = {"audit.json", "config.yaml", "split.json"}


@pytest.fixture
def broken_base(tmp_path, tiny_base):
    """Make a copy of the tiny base with something broken in it."""

    def make(fault):
        path = tmp_path / fault.__name__
        shutil.copytree(tiny_base, path)
        model = open_model(tiny_base).model
        fault(model)
        model.save_pretrained(path, dtype=torch.float32)
        return str(path)

    return make


def as_json(found):
    return json.loads(json.dumps(found.to_dict()))


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_healthy_run_is_told_so(tiny_settings, recorder):
    found = audit(tiny_settings(lora__trainable=EVERYTHING), report=recorder)
    assert found.ok
    assert [group.name for group in found.groups] == EVERYTHING
    assert all(group.update_ratio > 0 for group in found.groups)
    assert all(group.num_outside == 0 for group in found.groups)
    assert found.cuts == ()
    assert found.sentence["used"] == 1
    show(found, recorder)
    ((_, columns, rows),) = recorder.tables
    assert columns == COLUMNS
    assert [row[0] for row in rows] == EVERYTHING
    assert recorder.notes[-1] == "Everything that should learn does."
    assert any(note.startswith("Reached: ") for note in recorder.notes)
    assert all(group.num_touched > 0 for group in found.groups)
    (rows,) = (group for group in found.groups if group.name == "seg_token")
    assert rows.num_touched == rows.num_parameters == 2 * 32
    assert any(note.startswith("Sentence: used 1,") for note in recorder.notes)


def test_both_counts_are_told(tiny_settings, recorder):
    audit(tiny_settings(preset="seed"), report=recorder)
    (told,) = (note for note in recorder.notes if note.startswith("LoRA: "))
    assert re.fullmatch(r"LoRA: ([\d,]+) weights attached, \1 learn\.", told)


def test_what_stays_frozen_and_what_learns_without_lora_is_told(tiny_settings, recorder):
    config = tiny_settings(lora__trainable=["projector", "seg_token"])
    assert audit(config, report=recorder).ok
    (told,) = (note for note in recorder.notes if note.startswith("LoRA: "))
    assert re.fullmatch(
        r"LoRA: ([\d,]+) weights attached, 0 learn \(mllm_lora \1 stays frozen: it is zero, and "
        r"there only because peft needs one\)\. Without LoRA learn: projector 2,112, "
        r"seg_token 64\.",
        told,
    )


def test_why_memory_stays_frozen_and_the_connector_is_left_out_is_told(opened, recorder):
    del opened.model.mllm.model.multi_modal_projector
    opened.model.grounding = Sam2VideoModel(Sam2VideoConfig(memory_attention_num_layers=1))
    settings = LoraSettings(
        trainable=("mask_decoder_lora", "connector"), frozen=("memory_lora",), rank=1
    )
    attach(opened.model, settings)
    tell_attached(opened, settings, recorder)
    # memory: q, k, v of both attentions of the only layer; two of them read 64 channels of memory
    memory = 4 * (256 + 256) + 2 * (64 + 256)
    # decoder: q, k, v of five attentions to 128 channels, of two to 256
    decoder = 5 * 3 * (256 + 128) + 2 * 3 * (256 + 256)
    assert recorder.notes == [
        f"LoRA: {memory + decoder:,} weights attached, {decoder:,} learn "
        f"(memory_lora {memory:,} stays frozen: a single image never runs it).",
        "connector is left out: this base has none to open.",
    ]


def test_it_writes_nothing_but_what_it_was_asked_for(tmp_path, tiny_settings, disc_dir, recorder):
    before = sorted(disc_dir.rglob("*"))
    found = audit(tiny_settings(), tmp_path / "out", report=recorder)
    assert names(tmp_path / "out") == {"audit.json"}
    assert read_json(tmp_path / "out" / "audit.json") == as_json(found)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        audit(tiny_settings(), disc_dir / "out", report=recorder)
    assert sorted(disc_dir.rglob("*")) == before


def test_the_audit_of_a_run_is_not_written_over(tmp_path, tiny_settings, recorder):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match=r"audit\.json is what the run in .* began with"):
        audit(tiny_settings(), tmp_path, report=recorder)
    assert names(tmp_path) == {"config.yaml"}


def test_a_run_begins_with_its_own_audit(tmp_path, tiny_settings, train, recorder):
    """The same batch, the same weights, the same numbers."""
    config = tiny_settings(trainer__epochs=1)
    alone = audit(config, report=recorder)
    train(config, tmp_path / "run", report=recorder)
    assert read_json(tmp_path / "run" / "audit.json") == as_json(alone)


def test_everything_is_as_before(tiny_settings, disc_dir, recorder):
    config = tiny_settings(lora__dropout=0.3)
    accelerator = build_accelerator(pick_device())
    opened = open_base(config, accelerator.device, recorder)
    catalog = read_data(config.data, phrase="blood vessel", report=recorder)
    data = samples_of(config, opened, catalog.records, augment="light")
    trainer, loader = build_trainer(config, opened, data, accelerator)

    def everything():
        kept = {"weights": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
        modes = [module.training for module in trainer.model.modules()]
        grads = [param.grad for param in trainer.model.parameters()]
        return copy.deepcopy(kept), modes, grads, torch.get_rng_state()

    before = everything()
    assert audit_first_batch(config, opened, trainer, loader, data).ok
    kept, modes, grads, state = everything()
    assert kept["weights"].keys() == before[0]["weights"].keys()
    assert all(torch.equal(kept["weights"][n], w) for n, w in before[0]["weights"].items())
    assert kept["optimizer"] == before[0]["optimizer"]
    assert modes == before[1]
    assert grads == [None] * len(grads)
    assert torch.equal(state, before[3])


def test_a_run_that_is_taken_up_is_not_audited_again(tmp_path, tiny_settings, train, new_recorder):
    config, out = tiny_settings(), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        finetune(config, out, report=new_recorder(stop_in="Epoch 2/2"))
    written = (out / "audit.json").stat().st_mtime_ns
    again = new_recorder()
    train(config, out, report=again, resume=True)
    assert not any("What learns" in title for title, _, _ in again.tables)
    assert (out / "audit.json").stat().st_mtime_ns == written


def test_a_learning_rate_of_zero_is_found_before_anything_is_scored(
    tmp_path, tiny_settings, recorder
):
    out = tmp_path / "run"
    with pytest.raises(DeadGradientError) as caught:
        finetune(tiny_settings(optim__lr=0.0), out, report=recorder)
    message = str(caught.value)
    assert message.count("[zero_lr]") == 1
    assert "Give --lr a number above 0" in message
    assert "reached" not in message  # the table was shown, and is not shown again
    assert len(recorder.tables) == 1
    assert "Untouched model" not in recorder.counts
    assert names(out) == LEFT
    (cut,) = read_json(out / "audit.json")["cuts"]
    assert cut["groups"] == ["mllm_lora", "projector", "mask_decoder"]


def test_a_run_that_could_not_learn_makes_room_for_the_next(
    tmp_path, tiny_settings, train, new_recorder
):
    out = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(DeadGradientError):
            finetune(tiny_settings(optim__lr=0.0), out, report=new_recorder())
    train(tiny_settings(trainer__epochs=1), out, report=new_recorder())
    assert read_json(out / "audit.json")["ok"]
    with pytest.raises(ValueError, match="is not empty"):
        finetune(tiny_settings(trainer__epochs=1), out, report=new_recorder())


def test_it_makes_no_room_beside_anything_else(tmp_path, tiny_settings, recorder):
    out = tmp_path / "run"
    with pytest.raises(DeadGradientError):
        finetune(tiny_settings(optim__lr=0.0), out, report=recorder)
    (out / "thesis.docx").touch()
    with pytest.raises(ValueError, match="is not empty"):
        finetune(tiny_settings(), out, report=recorder)


def test_targets_that_match_nothing_are_named(tmp_path, tiny_settings, recorder):
    config = tiny_settings(lora__target_modules="nothing")
    found = audit(config, report=recorder)
    assert not found.ok
    assert found.verdict() == "No weight is trainable, so nothing can learn."
    (cut,) = found.cuts
    assert (cut.kind, cut.groups) == ("no_target", ("mllm_lora",))
    assert "Change lora.target_modules" in cut.cure
    with pytest.raises(CannotLearnError, match=r"Change lora\.target_modules"):
        finetune(config, tmp_path / "run", report=recorder)


@pytest.mark.parametrize("fault", [deafen, mute])
def test_a_base_that_ignores_the_sentence_stops_the_run(
    fault, broken_base, tmp_path, tiny_settings, recorder
):
    base = broken_base(fault)
    with pytest.raises(DeadGradientError) as caught:
        finetune(tiny_settings(model=base), tmp_path / "run", report=recorder)
    assert "[ignored_prompt]" in str(caught.value)
    assert "--trainable grounding_lora,mask_decoder" in str(caught.value)
    assert "the mask does not change when the sentence does" in str(caught.value)


def test_the_cure_is_one(broken_base, tiny_settings, recorder):
    config = tiny_settings(
        model=broken_base(deafen), lora__trainable=["grounding_lora", "mask_decoder"]
    )
    found = audit(config, report=recorder)
    assert found.ok
    show(found, recorder)
    assert any("every phrase will get the same mask" in note for note in recorder.notes)


def test_another_phrase_is_asked_even_of_the_background(tiny_settings, recorder):
    found = audit(tiny_settings(prompt__phrase="Background"), report=recorder)
    assert found.sentence["embedding_change_of_another_phrase"] > 0.01


def test_nothing_random_is_left_different(tiny_settings, recorder):
    first = audit(tiny_settings(lora__dropout=0.3), report=recorder)
    torch.rand(5)
    assert audit(tiny_settings(lora__dropout=0.3), report=recorder) == first
