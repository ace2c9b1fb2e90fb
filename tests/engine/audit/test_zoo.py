"""Every planted fault is named, kind and line; nothing is named in what is healthy; and the model,
its optimizer and all random numbers are left as they were."""

import json
import math
import subprocess
import sys

import pytest
import torch
from tests.engine.audit.zoo.adapters import ADAPTERS
from tests.engine.audit.zoo.branches import BRANCHES
from tests.engine.audit.zoo.carriers import Net, inputs, plain
from tests.engine.audit.zoo.designs import DESIGNS
from tests.engine.audit.zoo.figures import FIGURES
from tests.engine.audit.zoo.functions import FUNCTIONS
from tests.engine.audit.zoo.healthy import HEALTHY
from tests.engine.audit.zoo.libraries import LIBRARIES
from tests.engine.audit.zoo.losses import LOSSES
from tests.engine.audit.zoo.modes import MODES
from tests.engine.audit.zoo.optimizers import OPTIMIZERS
from tests.engine.audit.zoo.others import OTHERS
from tests.engine.audit.zoo.others_healthy import OTHER_HEALTHY
from tests.engine.audit.zoo.others_models import OTHER_MODELS
from tests.engine.audit.zoo.others_modes import OTHER_MODES
from tests.engine.audit.zoo.others_monai import OTHER_MONAI
from tests.engine.audit.zoo.others_numbers import OTHER_NUMBERS
from tests.engine.audit.zoo.others_optimizers import OTHER_OPTIMIZERS
from tests.engine.audit.zoo.others_working import OTHER_WORKING
from tests.engine.audit.zoo.state import differences, snapshot
from tests.engine.audit.zoo.values import VALUES
from tests.engine.audit.zoo.writes import WRITES

from vasculora.core.errors import DeadGradientError
from vasculora.engine.audit.kinds import KINDS
from vasculora.engine.audit.probe import audit_gradients

FAULTS = [*VALUES, *MODES, *LIBRARIES, *FUNCTIONS, *OPTIMIZERS, *LOSSES, *BRANCHES, *FIGURES]
FAULTS += [*WRITES, *ADAPTERS, *OTHERS, *OTHER_MODES, *OTHER_MODELS, *OTHER_MONAI]
FAULTS += [*OTHER_NUMBERS, *OTHER_OPTIMIZERS]
TWINS = [(f"{f.name} #{n}", build) for f in FAULTS for n, build in enumerate(f.twins, start=1)]
WELL = [*DESIGNS, *HEALTHY, *OTHER_HEALTHY, *OTHER_WORKING]
RAISES_ANYWAY = {"in_place", "nonfinite"}
"""Kinds after which no gradient of any group says anything."""


def audited(case):
    """Return the report on a case, and hold that nothing but time has passed."""
    before = snapshot(case.model, case.optimizer)
    try:
        report = audit_gradients(case.model, case.loss_fn, case.optimizer, case.groups)
    finally:
        changed = differences(before, snapshot(case.model, case.optimizer))
        torch.set_grad_enabled(True)
    assert not changed
    return report


def faults(report):
    return [str(cut) for cut in report.cuts]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named(fault):
    report = audited(fault.build())
    assert not report.ok, str(report)
    check_cuts(report, fault)
    check_groups(report, fault)
    check_words(report, fault)


def check_cuts(report, fault):
    right, allowed = fault.right_places(), fault.allowed_places()
    named = [cut for cut in report.cuts if any(place.fits(cut) for place in right)]
    assert named, f"expected one of {right}, got {faults(report)}"
    if fault.module:
        modules = [cut.module.split(".") for cut in named if cut.module]
        assert modules or fault.refused
        assert all(fault.module in parts for parts in modules), modules
    wrong = [
        str(cut)
        for cut in report.cuts
        if not any(place.fits(cut) for place in right + allowed) and cut.kind not in fault.also
    ]
    assert not wrong


def check_groups(report, fault):
    states = {group.name: group.state for group in report.groups}
    outside = {group.name for group in report.groups if group.num_outside}
    still = {"dead", "frozen"} if fault.kind in ("frozen", "adapter_disabled") else {"dead"}
    assert {states[name] for name in fault.dead} <= still, states
    assert set(fault.outside) == outside
    if fault.kind not in RAISES_ANYWAY and not fault.refused:
        rest = states.keys() - set(fault.dead) - set(fault.outside)
        assert {states[name] for name in rest} <= {"learns", "partial", "frozen"}, states
    for group in report.groups:
        parts = group.num_touched + group.num_zero + group.num_none + group.num_nonfinite
        assert parts == group.num_parameters or group.state == "frozen"
        assert math.isfinite(group.grad_norm)
        if group.name in fault.dead:
            assert group.num_touched == 0
            assert group.grad_norm == 0 or fault.kind == "vanishing"


def check_words(report, fault):
    with pytest.raises(DeadGradientError) as caught:
        report.raise_if_dead()
    words = str(caught.value)
    for cut in report.cuts:
        assert f"[{cut.kind}]" in words
        assert cut.file is None or f"{cut.file}:{cut.line}" in words
        assert cut.explanation
        assert cut.cure in words
        assert set(cut.groups) <= {group.name for group in report.groups}
    blamed = {name for cut in report.cuts for name in cut.groups}
    assert blamed >= {*fault.dead, *fault.outside}, blamed
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False


@pytest.mark.parametrize("build", [b for _, b in TWINS], ids=[name for name, _ in TWINS])
def test_its_twin_is_healthy(build):
    check_healthy(build())


@pytest.mark.parametrize("build", WELL, ids=lambda build: build.__name__)
def test_what_is_healthy_is_left_in_peace(build):
    check_healthy(build())


def check_healthy(case):
    report = audited(case)
    assert faults(report) == []
    assert report.ok, str(report)
    report.raise_if_dead()


ALL_RANDOM_NUMBERS = """
import random
import numpy as np
import torch
from vasculora.engine.audit.probe import audit_gradients

model = torch.nn.Linear(3, 1)

def loss():
    noise = random.random() + np.random.rand() + torch.rand(2, 3)
    return model(noise).square().mean()

def states():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

before = states()
assert audit_gradients(model, loss).ok
assert states() == before
"""


@pytest.mark.slow
def test_random_numbers_of_all_three_sources_are_put_back():
    done = subprocess.run(
        [sys.executable, "-c", ALL_RANDOM_NUMBERS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_graph_switched_off_before_the_audit_is_noticed():
    model = Net()
    with torch.set_grad_enabled(False):
        report = audit_gradients(model, plain(model).loss_fn)
        assert not torch.is_grad_enabled()
    assert {group.state for group in report.groups} == {"dead"}
    assert {cut.kind for cut in report.cuts} <= {"set_grad_enabled", "no_grad"}
    assert report.cuts


def test_weights_outside_the_model_keep_their_gradients():
    """A critic that the loss runs through is not the audit's business."""
    generator, critic, x = Net(), torch.nn.Linear(1, 1), inputs()
    critic.weight.grad = torch.ones(1, 1)
    assert audit_gradients(generator, lambda: critic(generator(x)).mean()).ok
    assert torch.equal(critic.weight.grad, torch.ones(1, 1))
    assert critic.bias.grad is None


def test_every_kind_is_planted():
    assert {fault.kind for fault in FAULTS} >= set(KINDS) - {"ignored_prompt"}


def test_names_are_told_apart():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
