import copy
import json
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tests.conftest import draw
from torch import nn

from vasculora import audit_gradients
from vasculora.core.errors import CannotLearnError, DeadGradientError
from vasculora.core.runtime import set_seed
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.model.groups import GROUPS, trainable_groups
from vasculora.model.lora import LoraSettings, attach

EVERYTHING = ("mllm_lora", "projector", "mask_decoder", "grounding_lora")
PATTERNS = {name: GROUPS[name] for name in EVERYTHING}


@pytest.fixture
def batch(opened):
    return opened.processor.batch([draw("xray", 0), draw("octa", 1, size=48)])


@pytest.fixture
def model(opened):
    """The tiny base with fresh adapters: every lora_B is zero."""
    set_seed(0)
    settings = LoraSettings(
        trainable=EVERYTHING, rank=4, alpha=8, grounding_rank=2, grounding_alpha=4, dropout=0.1
    )
    return attach(opened.model, settings)


def loss_of(model, batch, **settings):
    objective = Objective(ObjectiveConfig(**settings), sam_size=64)
    return lambda: objective(model(batch), batch).total()


def states(report):
    return {group.name: group.state for group in report.groups}


class Pair(nn.Module):
    """Two weights, of one and of three entries."""

    def __init__(self):
        super().__init__()
        self.near, self.far = (nn.Parameter(torch.full((n,), 2.0)) for n in (1, 3))


# --- Sa2VA


def test_every_group_of_a_healthy_model_learns(model, batch):
    groups = trainable_groups(model)
    report = audit_gradients(model, loss_of(model, batch, masks="all"), groups=PATTERNS)
    assert states(report) == dict.fromkeys(EVERYTHING, "learns")
    assert report.ok
    assert report.cuts == ()
    report.raise_if_dead()
    for group in report.groups:
        assert group.num_parameters == sum(p.numel() for p in groups[group.name].values())
        assert group.num_touched == group.num_parameters
        assert group.num_zero == group.num_none == group.num_nonfinite == group.num_outside == 0
        assert group.grad_norm > 0
        assert group.update_ratio is None


def test_the_first_half_of_lora_counts_although_the_second_is_zero(model, batch):
    loss_of(model, batch)().backward()
    first = [p for name, p in trainable_groups(model)["mllm_lora"].items() if "lora_A" in name]
    assert first
    assert all(not p.grad.any() for p in first)  # what a plain backward pass would report
    report = audit_gradients(model, loss_of(model, batch, masks="all"), groups=PATTERNS)
    assert report.groups[0].num_zero == 0
    assert report.groups[0].state == "learns"


def test_lora_with_both_halves_zero_is_dead(model, batch):
    with torch.no_grad():
        for param in trainable_groups(model)["mllm_lora"].values():
            param.zero_()
    report = audit_gradients(model, loss_of(model, batch, masks="all"), groups=PATTERNS)
    assert states(report)["mllm_lora"] == "dead"


def test_two_looks_see_the_same(model, batch):
    set_seed(1)
    reports = [
        audit_gradients(model, loss_of(model, batch, masks="all"), groups=PATTERNS)
        for _ in range(2)
    ]
    assert reports[0] == reports[1]


def test_a_text_loss_leaves_the_mask_side_dead(model, batch):
    report = audit_gradients(model, loss_of(model, batch, dice=0, focal=0, bce=0), groups=PATTERNS)
    assert states(report) == {
        "mllm_lora": "learns",
        "projector": "dead",
        "mask_decoder": "dead",
        "grounding_lora": "dead",
    }
    assert {cut.kind for cut in report.cuts} == {"other_tensor"}
    with pytest.raises(DeadGradientError, match="projector, mask_decoder, grounding_lora"):
        report.raise_if_dead()


def test_everything_is_put_back_after_a_fault_too(model):
    params = {name: param.detach().clone() for name, param in model.named_parameters()}
    model.eval()

    def fault():
        torch.rand(1)
        model.train()
        with torch.no_grad():
            next(model.parameters()).mul_(2)
        raise RuntimeError("out of memory")

    generator = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="out of memory"):
        audit_gradients(model, fault, groups=PATTERNS)
    assert all(torch.equal(param, params[name]) for name, param in model.named_parameters())
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), generator)


# --- any model


def test_without_groups_it_goes_by_top_module_below_all_wrappers():
    inner = nn.ModuleDict({"encoder": nn.Linear(2, 3), "head": nn.Linear(3, 1)})
    inner["encoder"].lora_A = nn.Parameter(torch.ones(2))
    model = nn.ModuleDict({"module": nn.ModuleDict({"model": inner})})
    inner["head"].requires_grad_(False)

    def loss():
        return inner["head"](inner["encoder"](torch.ones(1, 2)) * inner["encoder"].lora_A.sum())

    report = audit_gradients(model, lambda: loss().sum())
    assert states(report) == {
        "encoder (LoRA)": "learns",
        "encoder": "learns",
        "head": "frozen",
    }
    assert [g.num_parameters for g in report.groups if g.name == "head"] == [4]
    assert report.num_parameters == report.num_touched == 11


def test_trainable_weights_that_no_pattern_takes_are_a_group_too():
    model = Pair()
    report = audit_gradients(model, lambda: model.near.sum(), groups={"near": "^near$"})
    assert states(report) == {"near": "learns", "other": "dead"}
    assert not report.ok


def test_a_pattern_that_is_in_no_name_is_refused():
    with pytest.raises(
        ValueError, match=r"group 'a': the pattern 'nera' .* nearest name is 'near'"
    ):
        audit_gradients(Pair(), lambda: torch.zeros(()), groups={"a": ["far", "nera"]})


def test_a_loss_of_several_numbers_is_refused():
    model = Pair()
    with pytest.raises(ValueError, match=r"one number, got a tensor of shape \(3,\)"):
        audit_gradients(model, lambda: model.far * 2)


def test_a_loss_that_has_gone_backward_already_is_refused():
    model = Pair()

    def loss():
        total = model.near.square().sum()
        total.backward()
        return total

    with pytest.raises(ValueError, match=r"leave backward\(\) to the audit"):
        audit_gradients(model, loss)


def test_a_group_that_is_reached_in_part_names_what_is_not():
    model = Pair()
    report = audit_gradients(model, lambda: 2 * model.near.sum(), groups={"both": "."})
    assert states(report) == {"both": "partial"}
    assert report.ok
    assert report.cuts == ()
    assert report.groups[0].unreached == ("far",)
    assert report.rows() == [("both", "4", "1 (25.0%)", "2", "-", "partial")]
    assert "both: not reached: far." in str(report)


def test_nothing_to_learn_is_refused():
    model = Pair().requires_grad_(False)
    report = audit_gradients(model, lambda: model.near.sum())
    assert not report.ok
    with pytest.raises(CannotLearnError, match=r"[Nn]o weight is trainable"):
        report.raise_if_dead()


def test_one_trial_step_is_measured_and_taken_back():
    model = Pair()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    report = audit_gradients(model, lambda: (3 * model.near).sum() + model.far.sum(), optimizer)
    near, far = report.groups
    assert near.grad_norm == pytest.approx(3)
    assert near.update_ratio == pytest.approx(0.5 * 3 / 2)
    assert far.grad_norm == pytest.approx(math.sqrt(3))
    assert far.update_ratio == pytest.approx(0.5 * 1 / 2)
    assert model.near.item() == 2
    assert not optimizer.state


def test_the_trial_step_is_taken_at_the_rate_that_warm_up_ends_at():
    model = Pair()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    assert optimizer.param_groups[0]["lr"] == 0
    report = audit_gradients(model, lambda: model.near.sum() + model.far.sum(), optimizer)
    assert report.ok
    assert report.groups[0].update_ratio == pytest.approx(0.25)
    assert optimizer.param_groups[0]["lr"] == 0


def test_an_accelerated_optimizer_is_stepped_too():
    model = Pair()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.5))
    with accelerator.accumulate(model):  # in the middle of an accumulated step
        report = audit_gradients(model, lambda: model.near.sum() + model.far.sum(), optimizer)
    assert report.groups[0].update_ratio == pytest.approx(0.25)


def test_an_optimizer_that_asks_for_a_closure_is_not_tried():
    model = Pair()
    optimizer = torch.optim.LBFGS(model.parameters())
    report = audit_gradients(model, lambda: model.near.sum() + model.far.sum(), optimizer)
    assert report.ok
    assert report.groups[0].update_ratio is None


def test_the_optimizers_own_state_and_hooks_stay_out_of_it():
    model = Pair()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    (model.near.sum() + model.far.sum()).backward()
    optimizer.step()
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(optimizer.state_dict())
    state = optimizer.state[model.near]
    audit_gradients(model, lambda: model.near.sum() + model.far.sum(), optimizer)
    assert optimizer.state[model.near] is state
    assert str(optimizer.state_dict()) == str(before)
    assert calls == []


def test_what_is_written_down_can_be_read_back():
    model = Pair()
    report = audit_gradients(model, lambda: model.near.detach().sum() * model.far.sum())
    told = json.loads(json.dumps(report.to_dict()))
    assert told["ok"] is False
    assert told["num_touched"] == 3
    (cut,) = told["cuts"]
    assert cut["kind"] == "detach"
    assert cut["file"] == __file__
    assert cut["function"] == "<lambda>"
    assert cut["groups"] == ["near"]
    assert cut["explanation"]
    assert cut["cure"]


def test_what_the_loss_owes_to_frozen_weights_is_not_taken_for_the_others():
    model = Pair()
    model.far.requires_grad_(False)

    def loss():
        shown = model.near.sum().item()  # a number that is only looked at
        assert shown
        return (3 * model.far).sum()

    report = audit_gradients(model, loss, groups={"both": "."})
    assert [cut.kind for cut in report.cuts] == ["other_tensor"]


@pytest.mark.parametrize("ask", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_a_pass_too_large_to_be_followed_leaves_the_table(ask):
    model, calls = Pair(), []

    def loss():
        calls.append(None)
        if len(calls) == 2:  # the first is measured, this one is followed
            ask(2**55)
        return model.near.detach().sum() * model.far.sum()

    with pytest.warns(UserWarning, match="the pass could not be followed"):
        report = audit_gradients(model, loss)
    assert len(calls) == 2
    assert states(report) == {"near": "dead", "far": "learns"}
    assert report.cuts == ()
