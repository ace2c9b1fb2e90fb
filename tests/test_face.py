"""The public face: a few names, loaded when they are first used, and one program."""

import subprocess
import sys
import time

import pytest

import vasculora

HEAVY = ["torch", "transformers", "peft", "monai", "matplotlib", "accelerate"]
MODULES = ("vasculora", "vasculora.cli.app")


def run(*words):
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("module", MODULES)
def test_nothing_heavy_is_imported(module):
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    assert run("-c", code).strip() == "[]"


def test_help_is_quick_and_the_module_is_the_program():
    start = time.perf_counter()
    text = run("-m", "vasculora", "--help")
    seconds = time.perf_counter() - start
    assert "Usage: vasculora [OPTIONS] COMMAND" in text or "Usage: python -m vasculora" in text
    for command in ("finetune", "audit", "evaluate", "predict", "data", "pretrain", "demo"):
        assert command in text
    assert seconds < 2  # half a second on a quiet machine


def test_the_public_names():
    assert vasculora.Predictor.__module__ == "vasculora.model.predictor"
    assert vasculora.Sa2VA.__name__ == "Sa2VA"
    assert vasculora.Prediction.__name__ == "Prediction"
    assert vasculora.audit_gradients.__module__ == "vasculora.engine.audit.probe"
    assert issubclass(vasculora.DeadGradientError, RuntimeError)
    assert set(vasculora.__all__) <= set(dir(vasculora))
    with pytest.raises(AttributeError, match="no attribute 'Predictr'"):
        _ = vasculora.Predictr
