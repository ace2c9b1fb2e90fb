import copy

import pytest
import torch
from tests.conftest import draw

from vasculora.core.errors import CannotLearnError
from vasculora.core.runtime import set_seed
from vasculora.engine.audit.probe import audit_gradients
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.model.lora import LoraSettings, attach, trainable_groups

EVERYTHING = ("mllm_lora", "projector", "mask_decoder", "grounding_lora")


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


def test_every_group_of_a_healthy_model_learns(model, batch):
    groups = trainable_groups(model)
    report = audit_gradients(model, loss_of(model, batch, masks="all"), groups)
    assert states(report) == dict.fromkeys(groups, "learns")
    assert set(groups) == set(EVERYTHING)
    assert report.ok
    report.raise_if_dead()
    for group in report.groups:
        assert group.num_parameters == sum(p.numel() for p in groups[group.name].values())
        assert group.num_touched == group.num_parameters
        assert group.num_zero == group.num_none == group.num_nonfinite == 0
        assert group.grad_norm > 0


def test_the_first_half_of_lora_counts_although_the_second_is_zero(model, batch):
    groups = trainable_groups(model)
    loss_of(model, batch)().backward()
    first = [p for name, p in groups["mllm_lora"].items() if "lora_A" in name]
    assert first
    assert all(not p.grad.any() for p in first)  # what a plain backward pass would report
    report = audit_gradients(model, loss_of(model, batch), groups)
    assert report.groups[list(groups).index("mllm_lora")].num_zero == 0


def test_everything_is_put_back_bit_for_bit(model, batch):
    model.register_buffer("steps", torch.tensor([1.0]))

    def loss():
        model.steps.add_(1)  # as a layer with running statistics does
        return loss_of(model, batch)()

    loss_of(model, batch)().backward()
    model.eval()
    model.base_model.model.seg_projector.train()
    params = {name: param.detach().clone() for name, param in model.named_parameters()}
    grads = {name: param.grad for name, param in model.named_parameters()}
    values = {name: copy.deepcopy(grad) for name, grad in grads.items()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = [module.training for module in model.modules()]
    learns = [param.requires_grad for param in model.parameters()]
    torch.manual_seed(7)
    generator = torch.get_rng_state()

    audit_gradients(model, loss, trainable_groups(model))

    for name, param in model.named_parameters():
        assert torch.equal(param, params[name]), name
        assert param.grad is grads[name]
        assert param.grad is None or torch.equal(param.grad, values[name])
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert [module.training for module in model.modules()] == modes
    assert [param.requires_grad for param in model.parameters()] == learns
    assert torch.equal(torch.get_rng_state(), generator)


def test_everything_is_put_back_after_a_fault_too(model):
    params = {name: param.detach().clone() for name, param in model.named_parameters()}
    model.eval()

    def fault():
        torch.rand(1)
        raise RuntimeError("out of memory")

    generator = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="out of memory"):
        audit_gradients(model, fault, trainable_groups(model))
    assert all(torch.equal(param, params[name]) for name, param in model.named_parameters())
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), generator)


def test_two_looks_see_the_same(model, batch):
    groups = trainable_groups(model)
    set_seed(1)
    reports = [audit_gradients(model, loss_of(model, batch), groups) for _ in range(2)]
    assert reports[0] == reports[1]


def test_a_text_loss_leaves_the_mask_side_dead(model, batch):
    text_only = loss_of(model, batch, dice=0, focal=0, bce=0)
    report = audit_gradients(model, text_only, trainable_groups(model))
    assert states(report) == {
        "mllm_lora": "learns",
        "projector": "dead",
        "mask_decoder": "dead",
        "grounding_lora": "dead",
    }
    assert not report.ok
    with pytest.raises(CannotLearnError) as caught:
        report.raise_if_dead()
    lines = str(caught.value).splitlines()
    assert {line.split(":")[0] for line in lines} == {
        "projector",
        "mask_decoder",
        "grounding_lora",
    }
    assert all("Take it out of lora.trainable, or give a loss" in line for line in lines)


def test_a_path_that_is_cut_is_dead_and_named(model, batch):
    """The picture is encoded without a graph, as transformers' own entry point does it."""
    encoder = model.base_model.model.grounding.vision_encoder
    encoder.forward = torch.no_grad()(encoder.forward)
    report = audit_gradients(model, loss_of(model, batch, masks="all"), trainable_groups(model))
    assert states(report)["grounding_lora"] == "dead"
    assert states(report)["mllm_lora"] == states(report)["projector"] == "learns"
    with pytest.raises(CannotLearnError, match=r"^grounding_lora: none of its [\d,]+ trainable"):
        report.raise_if_dead()


def test_a_cut_at_the_seg_state_leaves_the_language_model_dead(model, batch):
    projector = model.base_model.model.seg_projector
    projector.register_forward_pre_hook(lambda _, args: (args[0].detach(),))
    report = audit_gradients(model, loss_of(model, batch, text=0.0), trainable_groups(model))
    assert states(report)["mllm_lora"] == "dead"
    assert states(report)["projector"] == "learns"
    with pytest.raises(CannotLearnError, match="mllm_lora: none of its"):
        report.raise_if_dead()


def test_a_loss_without_any_graph_is_dead_everywhere(model, batch):
    def cut():
        with torch.no_grad():
            return loss_of(model, batch)()

    report = audit_gradients(model, cut, trainable_groups(model))
    assert set(states(report).values()) == {"dead"}
    assert all(group.num_none == group.num_parameters for group in report.groups)


def test_what_is_not_finite_is_named(model, batch):
    first = model.base_model.model.seg_projector.modules_to_save["default"][0]

    def loss():
        return loss_of(model, batch)() + (first.bias * float("nan")).sum()

    report = audit_gradients(model, loss, trainable_groups(model))
    group = next(group for group in report.groups if group.name == "projector")
    assert group.num_nonfinite == first.bias.numel()
    with pytest.raises(CannotLearnError, match=r"projector: the gradient of 32 of .*not finite"):
        report.raise_if_dead()


def test_float_noise_does_not_count_as_learning():
    weight, noise = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    model = torch.nn.Module()
    model.weight, model.noise = weight, noise
    report = audit_gradients(
        model,
        lambda: weight.sum() + 1e-12 * noise.sum(),
        {"a": {"weight": weight}, "b": {"noise": noise}},
    )
    assert states(report) == {"a": "learns", "b": "dead"}


def test_a_group_that_is_reached_in_part_says_so():
    model = torch.nn.Module()
    model.near, model.far = (torch.nn.Parameter(torch.ones(n)) for n in (1, 3))
    report = audit_gradients(
        model, lambda: 2 * model.near.sum(), {"both": {"near": model.near, "far": model.far}}
    )
    assert states(report) == {"both": "partial"}
    assert report.ok
    assert report.rows() == [("both", "4", "1 (25.0%)", "2", "partial")]


def test_nothing_to_learn_is_refused(model, batch):
    report = audit_gradients(model, loss_of(model, batch), {})
    assert not report.ok
    with pytest.raises(CannotLearnError, match="no weight is trainable"):
        report.raise_if_dead()
