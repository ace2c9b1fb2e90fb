"""Which parts a run is made of, where the settings leave a choice."""

import pytest

from vasculora.core.config import load_config
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.losses.official import OfficialObjective
from vasculora.recipes.audit import audit
from vasculora.recipes.config import FinetuneConfig
from vasculora.recipes.setup import build_objective


def test_an_objective_is_built_from_weights_or_by_name():
    official = build_objective("official", sam_size=64)
    own = build_objective(ObjectiveConfig(text=0), sam_size=64)
    assert isinstance(official, OfficialObjective)
    assert (official.sam_size, official.num_points) == (64, 12544)
    assert isinstance(own, Objective)
    assert (own.sam_size, "text" in own.weights) == (64, False)


def test_the_official_loss_reaches_all_that_learns(tiny_settings, recorder):
    found = audit(tiny_settings(objective="official"), report=recorder)
    assert found.ok
    assert found.cuts == ()


@pytest.mark.slow
def test_a_run_with_the_official_loss_learns(tmp_path, tiny_settings, train, recorder):
    config = tiny_settings(
        objective="official", optim__lr=3e-3, trainer__epochs=5, trainer__batch_size=1
    )
    scores = train(config, tmp_path / "run", report=recorder)
    losses = [epoch["train_loss"] for epoch in scores["epochs"]]
    assert losses[-1] < 0.6 * losses[0]
    saved = load_config(FinetuneConfig, tmp_path / "run" / "config.yaml")
    assert saved.objective == "official"
