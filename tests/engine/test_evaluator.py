from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import draw

from vasculora.engine.evaluator import CaseScore, Evaluation, evaluate
from vasculora.metrics.mask import score
from vasculora.model.predictor import Predictor


@pytest.fixture
def predictor(opened):
    """A predictor whose masks are neither empty nor full: its threshold is a median."""
    prob = Predictor.of(opened)(draw("xray", 0).image).prob
    config = opened.processor.config.model_copy(update={"threshold": float(np.median(prob))})
    return Predictor.of(opened.with_settings(processor=config, prompt=opened.memory.prompt))


@pytest.fixture
def samples():
    cases = [draw("xray", 0), draw("octa", 1, size=48), draw("fundus", 2, size=57)]
    return [replace(c, masks=c.masks[:1], phrases=c.phrases[:1]) for c in cases]


def test_scores_are_those_of_the_models_own_answers(predictor, samples):
    found = evaluate(predictor, samples, batch_size=2)
    assert [case.case_id for case in found.cases] == ["xray0", "octa1", "fundus2"]
    assert 0 < found.mean()["dice"] < 1
    for case, mean_prob, sample in zip(found.cases, found.mean_probs, samples, strict=True):
        prediction = predictor(sample.image, sample.phrases[0])
        mask = prediction.mask
        assert mean_prob == pytest.approx(float(prediction.prob.mean()), abs=1e-4)
        assert case.seg_found
        assert case.group == sample.group
        assert score(mask, sample.masks[0]) == pytest.approx(
            {n: getattr(case, n) for n in ("dice", "iou", "sensitivity", "precision")}
        )


def test_how_many_are_asked_together_does_not_matter(predictor, samples):
    dices = [
        [case.dice for case in evaluate(predictor, samples, batch_size=size).cases]
        for size in (1, 2, 5)
    ]
    for dice in dices[1:]:
        assert dice == pytest.approx(dices[0], abs=2e-3)


def test_every_phrase_is_a_case(predictor):
    sample = draw("xray", 0)
    found = evaluate(predictor, [sample], batch_size=3)
    assert [case.case_id for case in found.cases] == [f"xray0: {p}" for p in sample.phrases]
    mask = predictor(sample.image, "background").mask
    place = sample.phrases.index("background")
    assert found.cases[place].dice == pytest.approx(score(mask, sample.masks[place])["dice"])


def test_masks_that_heed_no_phrase_are_known_for_it(predictor, samples):
    two = draw("xray", 0)
    places = [two.phrases.index("background"), two.phrases.index("blood vessel")]
    two = replace(two, masks=two.masks[places], phrases=("background", "blood vessel"))
    found = evaluate(predictor, [samples[1], two, samples[2]], batch_size=2)
    probs = [predictor(two.image, phrase).prob for phrase in two.phrases]
    expected = 1 - np.minimum(*probs).sum() / np.maximum(*probs).sum()
    assert found.prompt_sensitivity == pytest.approx(float(expected), abs=1e-4)
    assert found.truth_sensitivity == 1  # vessel and background share no pixel
    assert found.is_deaf == (found.prompt_sensitivity < 0.05)
    same = replace(two, phrases=("blood vessel", "blood vessel"))
    deaf = evaluate(predictor, [same], batch_size=2)
    assert deaf.prompt_sensitivity == pytest.approx(0, abs=1e-4)
    assert deaf.is_deaf
    alone = evaluate(predictor, samples, batch_size=2)
    assert alone.prompt_sensitivity is None
    assert not alone.is_deaf


def test_without_seg_the_mask_is_empty(predictor, samples):
    with torch.no_grad():
        head = predictor.model.mllm.lm_head.weight
        head[predictor.processor.seg_id] = -head[predictor.processor.seg_id]
    empty = replace(samples[1], masks=np.zeros_like(samples[1].masks))
    found = evaluate(predictor, [samples[0], empty], batch_size=2)
    assert found.seg_rate == 0
    assert [case.dice for case in found.cases] == [0, 1]


def test_cases_are_told_as_they_come(predictor, samples):
    heard = []
    found = evaluate(predictor, iter(samples), batch_size=2, on_case=heard.append)
    assert tuple(heard) == found.cases


def test_nothing_to_evaluate_is_refused(predictor):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(predictor, [], batch_size=2)


def test_means_ranks_and_the_file_by_hand():
    def case(case_id, dice, found):
        return CaseScore(
            case_id=case_id,
            group="g",
            dice=dice,
            iou=0.0,
            sensitivity=1.0,
            precision=dice / 2,
            seg_found=found,
        )

    evaluation = Evaluation(
        cases=(case("b", 0.2, True), case("c", 0.8, True), case("a", 0.2, False)),
        mean_probs=(0.1, 0.4, 0.0),
    )
    assert evaluation.seg_rate == pytest.approx(2 / 3)
    assert [c.case_id for c in evaluation.ranked()] == ["c", "a", "b"]
    mean = {"dice": 0.4, "iou": 0.0, "sensitivity": 1.0, "precision": 0.2}
    assert evaluation.mean() == pytest.approx(mean)
    written = evaluation.to_dict(split="val", threshold=0.5)
    assert (written["split"], written["num_cases"], written["threshold"]) == ("val", 3, 0.5)
    assert written["cases"][2] == {
        "case_id": "a",
        "group": "g",
        "dice": 0.2,
        "iou": 0.0,
        "sensitivity": 1.0,
        "precision": 0.1,
        "seg_found": False,
    }
