import copy
import math
from dataclasses import replace

import pytest
import torch
from tests.conftest import draw

from vasculora.core.errors import CannotLearnError
from vasculora.core.runtime import build_accelerator, set_seed
from vasculora.engine.optim import build_optimizer, build_schedule
from vasculora.engine.trainer import Trainer
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.model.groups import trainable_groups
from vasculora.model.lora import LoraSettings, attach

EVERYTHING = ("mllm_lora", "projector", "mask_decoder", "grounding_lora")


@pytest.fixture(scope="module")
def accelerator():
    return build_accelerator(torch.device("cpu"))


@pytest.fixture
def make(opened, accelerator):
    """Return a maker of trainers for one freshly adapted tiny base."""
    set_seed(0)
    settings = LoraSettings(
        trainable=EVERYTHING, rank=4, alpha=8, grounding_rank=2, grounding_alpha=4, dropout=0.0
    )
    model = attach(opened.model, settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, param in model.named_parameters():
            if "lora_B" in name:
                param.copy_(torch.randn(param.shape, generator=generator) * 0.02)

    def make(*, accumulation=1, lr=1e-3, max_grad_norm=1e9, num_steps=10, **objective):
        params = [p for group in trainable_groups(model).values() for p in group.values()]
        optimizer = build_optimizer(params, lr=lr, weight_decay=0.01)
        return Trainer(
            accelerator=accelerator,
            model=accelerator.prepare(model),
            objective=Objective(ObjectiveConfig(**objective), sam_size=64),
            optimizer=optimizer,
            schedule=build_schedule(optimizer, num_steps=num_steps, warmup=0.1),
            accumulation=accumulation,
            max_grad_norm=max_grad_norm,
        )

    return make


@pytest.fixture
def samples():
    """Four pictures of different sizes, with one to four things to segment."""
    cases = [
        draw("xray", 0),
        draw("octa", 1, size=48),
        draw("fundus", 2, size=57),
        draw("tubes", 3, size=64),
    ]
    return [
        replace(case, masks=case.masks[:num], phrases=case.phrases[:num])
        for case, num in zip(cases, (1, 4, 2, 3), strict=True)
    ]


@pytest.fixture
def together_and_alone(opened, samples):
    """The four pictures as one batch and as four; image i learns i answer tokens less."""
    alone = [opened.processor.batch([sample]) for sample in samples]
    alone = [_forget(batch, [index] * batch.num_masks) for index, batch in enumerate(alone)]
    together = opened.processor.batch(samples)
    together = _forget(together, together.image_index.tolist())
    return together, alone


def _forget(batch, counts):
    """Return the batch without the first answer tokens of each conversation in its labels."""
    labels = batch.labels.clone()
    for row, count in enumerate(counts):
        labels[row, (labels[row] != -100).nonzero()[:count, 0]] = -100
    return replace(batch, labels=labels)


def silent(num_images, terms):
    pass


def gradients(trainer, batches):
    """Return the gradients of each step, as the optimizer sees them."""
    steps = []
    names = {param: name for name, param in trainer.model.named_parameters()}

    def look(optimizer, args, kwargs):
        params = [param for group in optimizer.param_groups for param in group["params"]]
        steps.append({names[p]: p.grad.clone() for p in params if p.grad is not None})

    handle = trainer.optimizer.register_step_pre_hook(look)
    trainer.run_epoch(batches, silent)
    handle.remove()
    return steps


def distance(one, other):
    """Return the largest difference of two sets of gradients, as a share of the largest entry."""
    assert one.keys() == other.keys()
    largest = max(float(grad.abs().max()) for grad in one.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / largest


def test_four_at_once_are_four_accumulated(make, together_and_alone):
    together, alone = together_and_alone
    assert [batch.num_masks for batch in alone] == [1, 4, 2, 3]
    assert [batch.num_supervised for batch in alone] == [8, 28, 12, 15]
    (once,) = gradients(make(lr=0.0), [together])
    (accumulated,) = gradients(make(lr=0.0, accumulation=4), alone)
    assert distance(once, accumulated) < 1e-5
    (uneven,) = gradients(make(lr=0.0, accumulation=9), alone)
    assert distance(once, uneven) < 1e-5


def test_a_mean_of_means_would_be_another_step(make, together_and_alone):
    """So the test above can fail: images with few masks or tokens would weigh too much."""
    together, alone = together_and_alone
    (once,) = gradients(make(lr=0.0), [together])
    singly = gradients(make(lr=0.0), alone)
    naive = {name: sum(step[name] for step in singly) / 4 for name in once}
    assert distance(once, naive) > 1e-2


def test_an_epochs_figures_do_not_depend_on_its_cut(make, together_and_alone):
    together, alone = together_and_alone
    whole = make(lr=0.0).run_epoch([together], silent)
    cut = make(lr=0.0, accumulation=3).run_epoch(alone, silent)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    assert cut.dice == pytest.approx(whole.dice, abs=1e-3)
    assert cut.num_images == whole.num_images == 4
    assert cut.seconds > 0


def test_an_epochs_loss_is_the_objectives(make, together_and_alone):
    together, _ = together_and_alone
    trainer = make(lr=0.0)
    loss = trainer.loss(together)
    assert loss.requires_grad
    terms = trainer.objective(trainer.model(together), together)
    stats = trainer.run_epoch([together], silent)
    assert stats.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert stats.dice == pytest.approx(terms.dice / terms.num_masks)


def test_a_last_step_may_be_shorter(make, together_and_alone):
    _, alone = together_and_alone
    trainer, heard = make(accumulation=3, num_steps=10), []
    trainer.run_epoch(alone, lambda num_images, terms: heard.append((num_images, terms.num_masks)))
    assert heard == [(1, 1), (1, 4), (1, 2), (1, 3)]
    assert trainer.schedule.last_epoch == 2


def test_gradients_are_clipped_to_the_norm(make, together_and_alone):
    together, _ = together_and_alone
    (free,) = gradients(make(lr=0.0), [together])
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in free.values()))
    (clipped,) = gradients(make(lr=0.0, max_grad_norm=norm / 10), [together])
    shorter = math.sqrt(sum(float(grad.square().sum()) for grad in clipped.values()))
    assert shorter == pytest.approx(norm / 10, rel=1e-4)
    assert distance(free, {name: grad * 10 for name, grad in clipped.items()}) < 1e-4


def test_what_learns_moves_and_nothing_else(make, together_and_alone):
    _, alone = together_and_alone
    trainer = make(accumulation=2, masks="all")
    before = {name: param.detach().clone() for name, param in trainer.model.named_parameters()}
    touched = set()
    for _ in range(2):
        for step in gradients(trainer, alone):
            touched |= {name for name, grad in step.items() if grad.any()}
    for name, param in trainer.model.named_parameters():
        assert torch.equal(param, before[name]) != param.requires_grad, name
        assert (name in touched) == param.requires_grad, name


def test_the_loss_falls(make, together_and_alone):
    together, _ = together_and_alone
    trainer = make(lr=3e-3, num_steps=8)
    losses = [trainer.run_epoch([together], silent).loss for _ in range(8)]
    assert losses[-1] < 0.95 * losses[0]


def test_the_training_mode_is_set(make, together_and_alone):
    _, alone = together_and_alone
    trainer = make(lr=0.0)
    trainer.model.eval()
    trainer.run_epoch(alone[:1], silent)
    assert trainer.model.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_steps_nothing(make, together_and_alone, value):
    _, alone = together_and_alone
    trainer = make(accumulation=2, num_steps=10)
    before = copy.deepcopy(trainer.state())
    broken = replace(alone[1], sam_pixels=torch.full_like(alone[1].sam_pixels, value))
    message = r"the loss is not finite \((\w+: nan(, )?)+\) after a step on octa1\. Lower optim\.lr"
    with pytest.raises(CannotLearnError, match=message):
        trainer.run_epoch([alone[0], broken], silent)
    after = trainer.state()
    assert all(torch.equal(value, before["weights"][n]) for n, value in after["weights"].items())
    assert not after["optimizer"]["state"]
    assert after["schedule"]["last_epoch"] == 0


def test_what_is_kept_goes_on_bit_for_bit(make, together_and_alone):
    _, alone = together_and_alone
    trainer = make(accumulation=2)
    trainer.run_epoch(alone, silent)
    kept = copy.deepcopy(trainer.state())
    trainer.run_epoch(alone, silent)
    straight = copy.deepcopy(trainer.state()["weights"])

    resumed = make(accumulation=2)
    resumed.restore(**kept)
    assert all(
        torch.equal(value, kept["weights"][n]) for n, value in resumed.state()["weights"].items()
    )
    resumed.run_epoch(alone, silent)
    again = resumed.state()["weights"]
    assert all(torch.equal(value, straight[name]) for name, value in again.items())
    assert any(not torch.equal(value, kept["weights"][name]) for name, value in again.items())


def test_only_what_learns_is_kept(make):
    trainer = make()
    kept = trainer.state()["weights"]
    assert kept.keys() == {n for n, p in trainer.model.named_parameters() if p.requires_grad}


def test_other_weights_cannot_be_taken_up(make):
    trainer = make()
    kept = trainer.state()
    kept["weights"].pop(next(name for name in kept["weights"] if "seg_projector" in name))
    with pytest.raises(ValueError, match=r"1 weights learn now or then but not both.*projector"):
        trainer.restore(**kept)
