"""Phrases that are asked: mostly of different masks, and "blood vessel" more often than not."""

import numpy as np

from vasculora.core.types import Sample
from vasculora.data.synthetic.choice import ALIKE, choose, reword
from vasculora.data.synthetic.drawn import DrawnDataset
from vasculora.data.synthetic.phrases import SYNONYMS
from vasculora.data.synthetic.probes import PLACES, PROBES
from vasculora.data.synthetic.styles import PRETRAINING_STYLES, all_phrases


def _sample() -> Sample:
    """Return four phrases of the masks left, left again, nothing and right."""
    masks = np.zeros((4, 8, 8), dtype=bool)
    masks[:2, :, :4] = True
    masks[3, :, 4:] = True
    return Sample(
        case_id="a",
        group="a",
        image=np.zeros((8, 8, 3), dtype=np.uint8),
        masks=masks,
        phrases=("blood vessel", "dark vessel", "bright vessel", "left vessel"),
    )


def test_kept_masks_mostly_differ_and_blood_vessel_is_mostly_kept() -> None:
    repeated, vessels, empty = 0, 0, 0
    for seed in range(200):
        kept = choose(_sample(), np.random.default_rng(seed), most=3)
        assert 2 <= len(kept.phrases) <= 3
        for phrase, mask in zip(kept.phrases, kept.masks, strict=True):
            assert np.array_equal(mask, _sample().masks[_sample().phrases.index(phrase)])
        repeated += {"blood vessel", "dark vessel"} <= set(kept.phrases)
        vessels += "blood vessel" in kept.phrases
        empty += "bright vessel" in kept.phrases
    assert 2 <= repeated <= 40
    assert vessels > 140
    assert 30 < empty < 140
    assert 0.5 < ALIKE < 1


def test_a_synonym_takes_the_place_of_blood_vessel_alone() -> None:
    words = {reword(_sample(), np.random.default_rng(s), ("vessels",)).phrases for s in range(50)}
    rest = _sample().phrases[1:]
    assert words == {("blood vessel", *rest), ("vessels", *rest)}
    assert reword(_sample(), np.random.default_rng(0), ()).phrases == _sample().phrases


def test_every_style_has_synonyms_the_tokenizer_learns() -> None:
    assert set(SYNONYMS) == set(PRETRAINING_STYLES)
    assert {word for words in SYNONYMS.values() for word in words} <= set(all_phrases())


def test_the_endless_set_draws_the_same_case_again_and_others_in_other_epochs() -> None:
    data = DrawnDataset(6, size=64, seed=3, shapes_share=0.3, max_phrases=3)
    first = [data[index] for index in range(6)]
    assert all(1 <= len(case.phrases) <= 3 for case in first)
    assert [data[i].image.tobytes() for i in range(6)] == [case.image.tobytes() for case in first]
    data.set_epoch(1)
    assert data[0].image.tobytes() != first[0].image.tobytes()


def test_places_are_asked_alone_in_their_share_of_the_images() -> None:
    data = DrawnDataset(60, size=64, seed=3, shapes_share=0.3, max_phrases=4, places_share=0.5)
    alone = [set(data[index].phrases) <= PROBES[PLACES][0] for index in range(60)]
    assert 20 < sum(alone) < 40
    assert len({data[index].case_id for index in range(60)}) == 60
