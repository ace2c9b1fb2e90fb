"""What is promised of official checkpoints, held against what the official code computed."""

import pytest
import torch
from tests.model.official import parity
from tests.model.official.parity import FOLDERS, FORWARD, GRADIENT, Golden

FORWARD_OF_ALL = 20
"""Quantities that every family has a reference for, at the least."""


@pytest.fixture(scope="module", params=FOLDERS)
def golden(request, shared_dir):
    return Golden(shared_dir, request.param)


@pytest.fixture(scope="module")
def model(golden):
    return golden.open()


def test_ids_answers_and_masks_are_the_official_ones(golden, model):
    assert not any(parity.exact_differences(golden, model).values())


def test_every_quantity_on_the_way_to_a_mask_is_the_official_one(golden, model):
    found = parity.forward_differences(golden, model)
    assert len(found) >= FORWARD_OF_ALL
    assert {name: value for name, value in found.items() if not value <= FORWARD} == {}


def test_gradients_are_the_official_ones(golden, model):
    found = parity.gradient_differences(golden, model)
    assert len(found) > 10
    assert {name: value for name, value in found.items() if not value <= GRADIENT} == {}


def test_exact_constants_are_another_switch(golden):
    exact = golden.open(numerics="float32")
    with torch.no_grad():
        answer = exact.predict_forward(golden.image, text=golden.text("image"), return_tensors=True)
    moved = (answer["probability_maps"][0] - golden.tensors["image/prob.0"]).abs().max()
    assert 1e-4 < moved < 0.5
    assert exact.processor.config.numerics == "float32"
