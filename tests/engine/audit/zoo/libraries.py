"""Somebody else's functions that run a model without a graph."""

import importlib.util
import tempfile
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, inputs, note, truth
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

# --- a library's function runs the model without a graph

LIBRARY = """
import torch


class Pipeline:
    def __init__(self, model):
        self.model = model

    @torch.no_grad()
    def predict(self, x):
        return self._run(x)

    def forward(self, x):
        return self._run(x)

    def _run(self, x):
        return self.model(x)


def embed(model, x):
    with torch.inference_mode():
        return model.first(x).tanh()
"""


@cache
def library() -> ModuleType:
    """Return a module of somebody else's, written to a folder of its own."""
    path = Path(tempfile.mkdtemp(), "somebodys_library.py")
    path.write_text(LIBRARY)
    spec = importlib.util.spec_from_file_location("somebodys_library", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line_of(text: str) -> int:
    """Return the line of the library in which a text stands."""
    return next(n for n, line in enumerate(LIBRARY.splitlines(), start=1) if text in line)


def through(method: str) -> Case:
    model, x, y = Net(), inputs(), truth()
    run = getattr(library().Pipeline(model), method)
    return Case(model, lambda: F.mse_loss(run(x), y))


def through_an_embedding() -> Case:
    model, x, y = Net(), inputs(), truth()
    return Case(model, lambda: F.mse_loss(library().embed(model, x).mean(1, keepdim=True), y))


def predict_for_show() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        note(library().Pipeline(model).predict(x))
        note(library().embed(model, x))
        return F.mse_loss(model(x), y)

    return Case(model, loss)


class Speaker(nn.Module):
    """A language model whose generated states feed a head, as Sa2VA's do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        config = GPT2Config(vocab_size=19, n_positions=16, n_embd=8, n_layer=1, n_head=2)
        config.bos_token_id = config.eos_token_id = config.pad_token_id = 0
        self.llm = GPT2LMHeadModel(config)
        self.head = nn.Linear(8, 1)

    def generated_states(self, ids: Tensor) -> Tensor:
        answer = self.llm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=3,
            do_sample=False,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        return torch.cat([step[-1] for step in answer.hidden_states], dim=1)

    def forced_states(self, ids: Tensor) -> Tensor:
        return self.llm(ids, output_hidden_states=True).hidden_states[-1]


def speaking(generated: bool) -> Case:
    model = Speaker()
    ids = torch.tensor([[3, 5, 7, 9], [2, 4, 6, 8]])

    def loss() -> Tensor:
        if generated:
            states = model.generated_states(ids)
        else:
            note(model.generated_states(ids))
            states = model.forced_states(ids)
        return model.head(states).square().mean()

    return Case(model, loss)


ALL = ("first", "last")
GENERATE = Place("no_grad", "transformers/generation/utils.py", None, ("generate",))

LIBRARIES = [
    Fault(
        "a library predicts under no_grad",
        "no_grad",
        partial(through, "predict"),
        dead=ALL,
        places=(Place("no_grad", "somebodys_library.py", line_of("@torch.no_grad"), ("predict",)),),
        twins=(partial(through, "forward"), predict_for_show),
    ),
    Fault(
        "a library embeds under inference_mode",
        "inference_mode",
        through_an_embedding,
        dead=ALL,
        places=(
            Place("inference_mode", "somebodys_library.py", line_of("with torch"), ("embed",)),
        ),
        also=("branch_not_taken",),  # the last layer is not asked at all
    ),
    Fault(
        "states of transformers' generate",
        "no_grad",
        partial(speaking, True),
        dead=("llm",),
        places=(GENERATE,),
        twins=(partial(speaking, False),),
    ),
]
