"""vasculora: fine-tune Sa2VA models with LoRA to segment blood vessels from a sentence.

The names below are loaded when they are first used, so that `import vasculora` and `vasculora
--help` are quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vasculora.core.errors import DeadGradientError
    from vasculora.core.types import Prediction
    from vasculora.engine.audit.probe import audit_gradients
    from vasculora.model.predictor import Predictor
    from vasculora.model.sa2va import Sa2VA

__all__ = ["DeadGradientError", "Prediction", "Predictor", "Sa2VA", "audit_gradients"]

_HOMES = {
    "DeadGradientError": "vasculora.core.errors",
    "Prediction": "vasculora.core.types",
    "Predictor": "vasculora.model.predictor",
    "Sa2VA": "vasculora.model.sa2va",
    "audit_gradients": "vasculora.engine.audit.probe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vasculora' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
