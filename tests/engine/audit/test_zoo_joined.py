"""The zoo's faults in Sa2VA: the tiny one, nano, and the seed's two situations."""

import inspect
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import transformers
from tests.conftest import draw
from tests.engine.audit.test_zoo import (
    audited,
    check_cuts,
    check_groups,
    check_healthy,
    check_words,
)
from tests.engine.audit.zoo.case import Case
from tests.engine.audit.zoo.joined import (
    EVERYTHING,
    OF_THE_SEED,
    PLANTED,
    SEED,
    TWINS,
    Setting,
    patterns,
    through_library_generate,
)

from vasculora.core.runtime import set_seed
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.model.lora import LoraSettings, attach
from vasculora.model.pretrained import open_model


def keep(sample, num):
    """Return a sample with its first phrases only."""
    return replace(sample, masks=sample.masks[:num], phrases=sample.phrases[:num])


def planted_in(opened, size, num=2, masks="all", losses=None, **settings):
    """Return a setting on an opened model with fresh adapters."""
    set_seed(0)
    ranks = {"rank": 4, "alpha": 8, "grounding_rank": 2, "grounding_alpha": 4}
    model = attach(opened.model, LoraSettings(**({"trainable": EVERYTHING} | ranks | settings)))
    samples = [keep(draw("xray", index, size=size), num) for index in range(2)]
    prompts = opened.processor.prompts(
        [samples[0].case_id], [samples[0].image], [samples[0].phrases[0]]
    )
    config = ObjectiveConfig(**({"masks": masks} | (losses or {})))
    return Setting(
        model=model.train(),
        batch=opened.processor.batch(samples),
        objective=Objective(config, sam_size=opened.model.sam_size),
        prompts=prompts,
        stop=opened.processor.stop,
    )


def check_fault(planted, setting):
    fault = planted.fault(planted.plant(setting))
    report = audited(fault.build())
    assert not report.ok, str(report)
    check_cuts(report, fault)
    check_groups(report, fault)
    check_words(report, fault)
    return report


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_fault_of_the_tiny_model_is_named(opened, planted):
    losses = {"text": planted.text}
    check_fault(planted, planted_in(opened, 48, losses=losses, trainable=planted.trainable))


@pytest.mark.parametrize("plant", TWINS, ids=lambda plant: plant.__name__)
def test_its_twin_is_healthy(opened, plant):
    check_healthy(plant(planted_in(opened, 48)))


@pytest.mark.parametrize("planted", OF_THE_SEED, ids=lambda planted: planted.name)
def test_the_seeds_two_situations_in_the_tiny_model(opened, planted):
    check_fault(planted, planted_in(opened, 48, trainable=SEED))


# --- nano: opened once, with adapters once


@pytest.fixture(scope="module")
def nano():
    return planted_in(open_model("nano"), 96, trainable=SEED)


@contextmanager
def unhooked(model):
    """Take hooks and patched forward passes out again."""
    kept = [(m, dict(m._forward_pre_hooks), dict(vars(m))) for m in model.modules()]
    try:
        yield
    finally:
        for module, hooks, attributes in kept:
            module._forward_pre_hooks.clear()
            module._forward_pre_hooks.update(hooks)
            if "forward" not in attributes:
                vars(module).pop("forward", None)


@pytest.mark.parametrize("planted", OF_THE_SEED, ids=lambda planted: planted.name)
def test_the_seeds_two_situations_in_nano(nano, planted):
    check_fault(planted, nano)


def test_the_seeds_repair_is_told_with_its_share_and_the_librarys_line(nano):
    case = through_library_generate(nano)
    report = audited(case)
    groups = {group.name: group for group in report.groups}
    language, decoder = groups["mllm_lora"], groups["mask_decoder_lora"]
    assert (language.state, language.num_touched) == ("dead", 0)
    assert decoder.num_touched > 0
    assert decoder.state in ("learns", "partial")
    (cut,) = report.cuts
    generate = transformers.generation.GenerationMixin.generate
    _, line = inspect.getsourcelines(inspect.unwrap(generate))
    assert cut.kind == "no_grad"
    assert cut.file.endswith("transformers/generation/utils.py")
    assert (cut.line, cut.function) == (line, "generate")
    assert cut.groups == ("mllm_lora",)
    trainable = language.num_parameters + decoder.num_parameters
    assert f"{decoder.num_touched:,} of {trainable:,}" in str(report)
    loss = case.loss_fn()
    assert loss.requires_grad  # what the seed took for a proof


@pytest.mark.parametrize("planted", [p for p in PLANTED if set(p.dead) & set(SEED)][-2:],
                         ids=lambda planted: planted.name)  # fmt: skip
def test_a_fault_of_nano_is_named(nano, planted):
    config = nano.objective.config.model_copy(update={"text": planted.text})
    setting = replace(nano, objective=Objective(config, sam_size=nano.objective.sam_size))
    with unhooked(nano.model):
        check_fault(replace(planted, trainable=SEED), setting)


@pytest.mark.parametrize("plant", TWINS, ids=lambda plant: plant.__name__)
def test_a_healthy_step_of_nano_is_left_in_peace(nano, plant):
    with unhooked(nano.model):
        check_healthy(plant(nano))


# --- ten healthy set-ups


def with_gradients(setting):
    setting.loss().backward()
    return setting.case(setting.loss)


def checkpointed(setting):
    setting.base.mllm.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": False}
    )
    return setting.case(setting.loss)


def in_bfloat16(setting):
    def loss():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return setting.loss()

    return setting.case(loss)


def tied(setting):
    """The text head is the embedding, both open beside the adapters."""
    embedding = setting.base.mllm.get_input_embeddings()
    setting.base.mllm.lm_head.weight = embedding.weight
    groups = patterns(setting.model) | {"words": "embed_tokens|lm_head"}
    embedding.weight.requires_grad_(True)
    return Case(setting.model, setting.loss, groups=groups)


def with_optimizer(setting):
    learning = [p for p in setting.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-3)
    return Case(setting.model, setting.loss, optimizer, patterns(setting.model))


def plainly(setting):
    return setting.case(setting.loss)


MASK_ONLY = {"text": 0.0}
TEXT_ONLY = {"dice": 0.0, "focal": 0.0, "bce": 0.0}
SET_UPS = {
    "LoRA": (with_optimizer, {}),
    "DoRA": (plainly, {"use_dora": True}),
    "checkpointing": (checkpointed, {}),
    "accumulation": (with_gradients, {}),
    "frozen parts": (plainly, {"trainable": ("mllm_lora", "projector")}),
    "tied weights": (tied, {}),
    "bf16": (in_bfloat16, {}),
    "text loss alone": (plainly, {"losses": TEXT_ONLY, "trainable": ("mllm_lora",)}),
    "mask loss alone": (plainly, {"losses": MASK_ONLY, "masks": "chosen"}),
    "two [SEG]": (plainly, {"num": 2, "dropout": 0.5, "use_rslora": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SET_UPS)
def test_ten_healthy_set_ups_raise_nothing(opened, name):
    make, settings = SET_UPS[name]
    check_healthy(make(planted_in(opened, 48, **settings)))
