"""Runs that cannot learn are stopped with their own reason; runs that can are left alone."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tests.conftest import draw
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from vasculora.core.errors import CannotLearnError
from vasculora.core.runtime import build_accelerator, set_seed
from vasculora.engine.evaluator import evaluate
from vasculora.engine.optim import build_optimizer, build_schedule
from vasculora.engine.sentinel import Sentinel, checksums
from vasculora.engine.trainer import Trainer
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.model.groups import trainable_groups
from vasculora.model.lora import LoraSettings, attach
from vasculora.model.predictor import Predictor
from vasculora.model.sensitivity import measure_sensitivity

GROUPS = ("mllm_lora", "projector", "mask_decoder")
PLAIN = ObjectiveConfig()
ONLY_TEXT = ObjectiveConfig(dice=0, focal=0, bce=0, text=1)


def one_phrase(sample):
    return replace(sample, masks=sample.masks[:1], phrases=sample.phrases[:1])


TRAIN = [one_phrase(draw("xray", index, size=48)) for index in range(4)]
VAL = [one_phrase(draw("xray", index, size=48)) for index in (7, 8)]


@dataclass
class Session:
    """A tiny run: real model, trainer, sentinel, and what it evaluates."""

    opened: object
    trainer: Trainer
    warnings: list
    predictor: Predictor

    @property
    def sentinel(self):
        return self.trainer.sentinel

    def batches(self, samples=TRAIN):
        return [self.opened.processor.batch([sample]) for sample in samples]

    def train(self, batches=None):
        return self.trainer.run_epoch(batches or self.batches(), lambda num_images, terms: None)

    def learn(self, num_epochs, val=VAL):
        """Train and score some epochs, and return the mean Dice of each."""
        scores = []
        for _ in range(num_epochs):
            self.train()
            found = evaluate(self.predictor, val, batch_size=2)
            scores.append(found.mean()["dice"])
            self.sentinel.after_epoch(found)
        return scores

    def stopped(self, num_epochs=1, **kwargs):
        """Return what a run of some epochs is stopped with."""
        with pytest.raises(CannotLearnError) as caught:
            self.learn(num_epochs, **kwargs)
        return str(caught.value)


@pytest.fixture
def start(opened):
    def start(
        *, groups=GROUPS, mode="stop", lr=3e-3, objective=PLAIN, threshold=None, prepare=None,
        over=None, schedule=None, weight_decay=0.01, num_steps=64, sensitivity=None, accumulation=1,
    ):  # fmt: skip
        set_seed(0)
        if prepare is not None:
            prepare(opened.model)
        model = attach(opened.model, LoraSettings(trainable=groups, rank=4, alpha=8, dropout=0))
        groups = trainable_groups(model)
        params = [param for group in groups.values() for param in group.values()]
        optimizer = build_optimizer(
            params if over is None else over(params), lr=lr, weight_decay=weight_decay
        )
        if schedule is None:
            schedule = build_schedule(optimizer, num_steps=num_steps, warmup=0.1)
        else:
            schedule = LambdaLR(optimizer, schedule)
        warnings = []
        door = opened
        if threshold is not None:
            config = opened.processor.config.model_copy(update={"threshold": threshold})
            door = opened.with_settings(processor=config, prompt=opened.memory.prompt)
        trainer = Trainer(
            accelerator=build_accelerator(torch.device("cpu")),
            model=model,
            objective=Objective(objective, sam_size=64),
            optimizer=optimizer,
            schedule=schedule,
            accumulation=accumulation,
            sentinel=Sentinel(
                groups=groups,
                optimizer=optimizer,
                warn=warnings.append,
                mode=mode,
                sensitivity=sensitivity,
            ),
        )
        return Session(door, trainer, warnings, Predictor.of(door))

    return start


def copies(params):
    return [nn.Parameter(param.detach().clone()) for param in params]


# weights that do not move


def test_an_optimizer_over_copies(start):
    text = start(over=copies).stopped()
    assert text.startswith("mllm_lora: after 3 optimizer steps none of its ")
    assert "though their learning rate is above zero. The optimizer holds other tensors" in text
    assert text.endswith("then make the optimizer.")


def test_one_group_of_several_outside_the_optimizer(start):
    session = start(over=lambda params: params[: len(params) // 2])
    last = list(session.sentinel.groups)[-1]
    assert session.stopped().startswith(f"{last}: after 3 ")


def test_a_group_that_no_gradient_reaches(start):
    text = start(objective=ONLY_TEXT).stopped()
    assert text.startswith(("projector: after 3", "mask_decoder: after 3"))
    assert "No gradient reaches them. `vasculora audit` names the line" in text


def test_every_group_is_told_apart_and_once(start):
    session = start(objective=ONLY_TEXT, mode="warn")
    for _ in range(3):
        session.train()
    told = [text.partition(":")[0] for text in session.warnings]
    assert sorted(told) == ["mask_decoder", "projector"]


def test_a_step_too_small_for_its_numbers(start):
    text = start(lr=1e-50).stopped()
    assert "They have a gradient, but a step is too small to change a number of float32" in text
    assert text.endswith("Raise optim.lr.")


def test_a_group_that_is_frozen_on_the_way(start):
    session = start()
    session.train()
    for param in session.sentinel.groups["projector"].values():
        param.requires_grad_(False)
    session.train()  # steps 5 to 8, of which the last is looked at
    text = session.stopped()
    assert text.startswith("projector: after 10 optimizer steps none of its 2,")
    assert "They are frozen by now." in text


def test_a_learning_rate_stuck_at_zero(start):
    session = start(schedule=lambda step: 0.0)
    session.train()
    text = session.stopped()
    assert "the learning rate has been zero for 5 optimizer steps in a row (up to step 5)" in text
    assert "Raise optim.lr, or check how many steps its schedule is made for." in text


def test_a_schedule_made_for_too_few_steps(start):
    session = start(schedule=lambda step: 1.0 if step < 6 else 0.0)
    session.train()
    session.train()
    assert "(up to step 11)" in session.stopped()


# losses and gradients that are not finite


def broken(session):
    good, bad = session.batches()[:2]
    return [good, replace(bad, sam_pixels=torch.full_like(bad.sam_pixels, torch.nan))]


def test_a_loss_that_is_not_finite(start):
    session = start()
    with pytest.raises(CannotLearnError, match=r"loss is not finite \(dice: nan.* step on xray1\."):
        session.train(broken(session))


def test_a_gradient_that_alone_is_not_finite(start):
    session = start()
    next(iter(session.sentinel.groups["projector"].values())).register_hook(lambda g: g / 0)
    with pytest.raises(
        CannotLearnError, match=r"gradient is not finite, though the loss is, .* on xray0\."
    ):
        session.train()


def test_a_left_out_step_changes_nothing(start):
    session = start(mode="warn")
    before = checksums(session.sentinel.groups)
    with pytest.raises(CannotLearnError, match=r"single optimizer step: 1 images came"):
        session.train(broken(session)[1:])
    assert checksums(session.sentinel.groups) == before
    assert session.trainer.schedule.last_epoch == 0
    stats = session.train(broken(session))
    assert stats.num_images == 1
    assert np.isfinite(stats.loss)
    assert session.trainer.schedule.last_epoch == 1
    assert checksums(session.sentinel.groups) != before
    assert len(session.warnings) == 1, "the same fault is told once"


def test_an_epoch_without_images(start):
    session = start()
    with pytest.raises(CannotLearnError, match=r"single optimizer step: 0 images came"):
        session.trainer.run_epoch([], lambda num_images, terms: None)


# scores that are the same number epoch after epoch


def test_weights_that_do_not_move_explain_the_score(start):
    session = start(lr=1e-50, mode="warn", threshold=0.3)
    scores = session.learn(3)
    assert len(set(scores)) == 1
    text = session.warnings[-1]
    assert text.startswith("the validation scores of all 2 cases have been the same numbers for 3")
    assert "Weights do not move: those of mllm_lora, mask_decoder, projector are, bit for" in text


def test_a_disabled_adapter(start):
    session = start(sensitivity=lambda: 0.4)
    predict = session.predictor.predict_batch

    class Disabled(Predictor):
        def predict_batch(self, *args):
            with session.trainer.model.disable_adapter():
                return predict(*args)

    session.predictor = Disabled(session.predictor.model, session.predictor.processor)
    text = session.stopped(3)
    assert "but the prediction does not use them: the probabilities of all 2 cases" in text
    assert "The adapter is disabled, or a stale copy of the model is evaluated." in text


def test_a_stale_model(start):
    session = start(sensitivity=lambda: 0.4)
    stale = copy.deepcopy(session.predictor.model)
    session.predictor = Predictor(stale, session.predictor.processor)
    assert "Weights move (mllm_lora, mask_decoder, projector), but the prediction does not use" in (
        session.stopped(3)
    )


def test_a_threshold_out_of_reach(start):
    session = start(threshold=0.999999)
    session.learn(4)  # a weak base that has found nothing yet is given more time
    text = session.stopped(1)
    assert "5 epochs in a row (mean Dice 0.0000)" in text
    assert "and the prediction moves (mean probability of a case by up to 0." in text
    assert "but the score cannot. Not one pixel of a mask is found: the threshold" in text


def test_a_threshold_below_everything(start):
    text = start(threshold=1e-9).stopped(3)
    assert "but the score cannot. Every pixel of every mask is found" in text


def test_masks_of_something_else(start):
    session = start(threshold=0.4)
    session.learn(1)
    found = session.predictor.predict_batch(
        [s.case_id for s in VAL], [s.image for s in VAL], [s.phrases[0] for s in VAL]
    )
    never = []
    for sample, prediction in zip(VAL, found, strict=True):
        mask = np.zeros_like(sample.masks)
        mask[0].flat[prediction.prob.argmin()] = True
        never.append(replace(sample, masks=mask))
    text = session.stopped(5, val=never)
    assert "the masks belong to other images or show something else" in text


def test_a_mask_that_ignores_the_text(start, opened):
    def deafen(model):
        nn.init.zeros_(model.seg_projector[-1].weight)

    def effect():
        asked = opened.processor.batch(VAL)
        other = opened.processor.batch([replace(s, phrases=("background",)) for s in VAL])
        return measure_sensitivity(opened.model, asked, other).other_logits

    healthy = effect()
    session = start(groups=("mllm_lora",), prepare=deafen, sensitivity=effect)
    text = session.stopped(3)
    assert "Weights move (mllm_lora), but the mask ignores the text: another sentence" in text
    assert "by a share of 0 only" in text
    assert healthy > 0.005


def test_answers_without_seg(start):
    def mute(model):
        head = model.mllm.lm_head.weight
        with torch.no_grad():
            head[model.seg_token_id] = -head[model.seg_token_id]

    session = start(prepare=mute, objective=ObjectiveConfig(text=0))
    text = session.stopped(3)
    assert "but no answer holds [SEG], so every mask is empty. Raise objective.text" in text


def far_from_any_pixel(opened):
    """Return the middle of the widest gap between the probabilities of all pixels."""
    predict = Predictor.of(opened).predict_batch
    found = [predict([one.case_id], [one.image], one.phrases)[0].prob.ravel() for one in VAL]
    probs = np.sort(np.concatenate(found))
    widest = int(np.argmax(np.diff(probs)))
    return float(probs[widest : widest + 2].mean())


def test_a_prediction_that_moves_too_little(start, opened):
    threshold = far_from_any_pixel(opened)
    session = start(lr=1e-7, threshold=threshold, sensitivity=lambda: 0.4)
    assert "No pixel crosses the threshold, so little does it move. Raise optim.lr, or" in (
        session.stopped(3)
    )


def test_a_standing_score_is_told_once(start):
    session = start(threshold=0.999999, mode="warn")
    session.learn(6)
    assert len(session.warnings) == 1


# what can learn is left alone


def test_a_run_that_learns(start):
    session = start(num_steps=24)
    scores = session.learn(6)
    assert len(set(scores)) > 1
    assert session.warnings == []


def test_accumulated_steps_without_decay(start):
    """No decay: lora_A has no gradient at first, and only lora_B of its group moves."""
    session = start(weight_decay=0, accumulation=3, groups=("mllm_lora",))
    for _ in range(4):
        session.train()
    assert session.warnings == []


def test_a_group_that_two_batches_do_not_reach(start):
    session = start()
    full = session.trainer.objective
    session.trainer.objective = Objective(ONLY_TEXT, sam_size=64)
    session.train(session.batches()[:2])
    session.trainer.objective = full
    session.train()
