"""How a command ends where memory runs out, and where the fault is nobody's but the program's."""

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from vasculora.cli.exits import Guarded

FAULTS = {
    "torch": lambda: torch.empty(2**55),
    "numpy": lambda: np.empty(2**55),
    "shape": lambda: torch.ones(2) @ torch.ones(3),
}
app = typer.Typer(cls=Guarded)


@app.callback()
def _root() -> None:
    pass


@app.command()
def meet(fault: str) -> None:
    FAULTS[fault]()


@pytest.mark.parametrize(
    ("fault", "asked"), [("torch", "144115188075855872 bytes"), ("numpy", "256. PiB")]
)
def test_memory_that_ran_out_is_one_message(fault, asked):
    result = CliRunner().invoke(app, ["meet", fault])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"vasculora: memory ran out ({asked} more were asked for).")
    assert "Lower --batch-size" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_fault_of_the_program_itself_is_not_hidden():
    result = CliRunner().invoke(app, ["meet", "shape"])
    assert isinstance(result.exception, RuntimeError)
