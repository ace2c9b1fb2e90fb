from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import draw

from vasculora.engine.evaluator import evaluate, given_answers, score_answers
from vasculora.engine.scores import CaseScore, Evaluation
from vasculora.metrics.mask import SWEEP
from vasculora.metrics.panel import COUNT_METRICS, METRICS, score_case
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
        expected = score_case(mask, sample.masks[0], names=COUNT_METRICS)
        assert case.scores == pytest.approx(expected)


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
    expected = score_case(mask, sample.masks[place], names=("dice",))
    assert found.cases[place].scores["dice"] == pytest.approx(expected["dice"])


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


def test_only_the_field_of_view_counts(predictor, samples):
    sample = samples[0]
    fov = np.zeros(sample.masks[0].shape, dtype=bool)
    fov[10:40, 5:50] = True
    (case,) = evaluate(predictor, [replace(sample, fov=fov)], batch_size=1).cases
    mask = predictor(sample.image, sample.phrases[0]).mask
    expected = score_case(mask[10:40, 5:50], sample.masks[0][10:40, 5:50], names=COUNT_METRICS)
    assert case.scores == pytest.approx(expected)


def test_a_sweep_is_the_dice_at_each_threshold(predictor, samples):
    found = evaluate(predictor, samples, batch_size=3)
    place = SWEEP.index(0.5)
    for case, sample in zip(found.cases, samples, strict=True):
        prob = predictor(sample.image, sample.phrases[0]).prob
        expected = score_case(prob > 0.5, sample.masks[0], names=("dice",))["dice"]
        assert case.sweep[place] == pytest.approx(expected, abs=1e-6)
        assert case.at_half["dice"] == pytest.approx(expected, abs=1e-6)
    means = found.mean_sweep()
    assert means[SWEEP.index(found.best_threshold())] == max(means)


def test_the_trained_answer_is_given_where_another_was_said(predictor, samples):
    with torch.no_grad():
        head = predictor.model.mllm.lm_head.weight
        head[predictor.processor.seg_id] = -head[predictor.processor.seg_id]
    found = evaluate(predictor, samples[:2], batch_size=2, forced_by=predictor)
    assert [case.as_trained for case in found.cases] == [False, False]
    assert found.mean_counted()["dice"] == 0
    forced = predictor.teacher_forced(
        [s.case_id for s in samples[:2]],
        [s.image for s in samples[:2]],
        [s.phrases[0] for s in samples[:2]],
    )
    for case, sample, given in zip(found.cases, samples[:2], forced, strict=True):
        expected = score_case(given.mask, sample.masks[0], names=COUNT_METRICS)
        assert case.forced == pytest.approx(expected)
    assert found.mean_forced()["sensitivity"] > 0


def test_all_metrics_are_scored_in_order_beside_the_model(predictor, samples):
    many = [replace(s, case_id=f"{s.case_id}-{i}") for i in range(6) for s in samples]
    found = evaluate(predictor, many, batch_size=4, names=tuple(METRICS))
    assert [case.case_id for case in found.cases] == [sample.case_id for sample in many]
    for case in found.cases:
        assert list(case.scores) == list(METRICS)
        assert case.reliability is not None
    assert found.reliability().ece == pytest.approx(found.cases[0].reliability.ece, abs=0.5)


def test_drawn_masks_are_scored_without_a_model(samples):
    pairs = [(sample, sample.masks[0]) for sample in samples]
    names = [name for name, metric in METRICS.items() if not metric.needs_prob]
    found = score_answers(given_answers(pairs), names=names)
    assert found.mean_counted() == dict.fromkeys(COUNT_METRICS, 1.0)
    assert found.mean_sweep() is None
    assert found.mean_at_half() is None
    assert {case.seg_found for case in found.cases} == {None}


def case(case_id, dice, *, found=True, absent=False, empty=False, sweep=()):
    scores = {"dice": dice, "hd95": None if dice < 0.3 else 2.0}
    return CaseScore(
        case_id=case_id,
        group="g",
        scores=scores,
        seg_found=found,
        absent=absent,
        empty=empty,
        sweep=sweep,
    )


def test_means_and_ranks_by_hand():
    evaluation = Evaluation(cases=(case("b", 0.2), case("c", 0.8), case("a", 0.2, found=False)))
    assert evaluation.seg_rate == pytest.approx(2 / 3)
    assert [c.case_id for c in evaluation.ranked()] == ["c", "a", "b"]
    assert evaluation.mean() == pytest.approx({"dice": 0.4, "hd95": 2.0})
    assert evaluation.false_mask_rate is None
    assert Evaluation(cases=(case("b", 0.2),)).mean() == {"dice": 0.2, "hd95": None}


def test_masks_of_what_is_absent_are_counted():
    cases = (
        case("a", 1.0, absent=True, empty=True),
        case("b", 0.0, absent=True),
        case("c", 0.0, empty=True),
        case("d", 0.0, absent=True),
    )
    assert Evaluation(cases=cases).false_mask_rate == pytest.approx(2 / 3)


def test_of_equal_thresholds_the_middle_one_is_taken():
    flat = tuple(1.0 if 0.3 <= t <= 0.65 else 0.0 for t in SWEEP)
    assert Evaluation(cases=(case("a", 1.0, sweep=flat),)).best_threshold() == 0.5
    low = tuple(float(t < 0.2) for t in SWEEP)
    assert Evaluation(cases=(case("a", 1.0, sweep=low),)).best_threshold() == pytest.approx(0.15)
