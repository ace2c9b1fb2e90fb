import pytest
from torch import nn

from vasculora.model.modes import in_mode


def test_every_part_gets_its_own_mode_back_even_after_a_fault():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(1, 1)))
    model[1].eval()
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    for training in (True, False):
        with in_mode(model, training=training):
            assert {module.training for module in model.modules()} == {training}
        assert [module.training for module in model.modules()] == before
    with pytest.raises(ZeroDivisionError), in_mode(model, training=False):
        _ = 1 / 0
    assert [module.training for module in model.modules()] == before
