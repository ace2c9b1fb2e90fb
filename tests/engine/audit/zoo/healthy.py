"""Set-ups in which everything learns, and which still hold what looks like a fault."""

import copy

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, early, inputs, note, plain, truth
from tests.engine.audit.zoo.case import Case
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim import SGD, AdamW

# --- zeros that are no fault


class Residual(nn.Module):
    """ReZero: the branch counts alpha times, and alpha starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(24)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.branch = nn.Linear(6, 6)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.alpha * torch.tanh(self.branch(x)))


def rezero() -> Case:
    return plain(Residual())


class ZeroConv(nn.Module):
    """ControlNet's way in: a convolution of zeros behind a trainable copy."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(25)
        self.frozen = nn.Conv1d(1, 2, 3, padding=1).requires_grad_(False)
        self.control = nn.Conv1d(1, 2, 3, padding=1)
        self.way_in = nn.Conv1d(2, 2, 1)
        nn.init.zeros_(self.way_in.weight)
        nn.init.zeros_(self.way_in.bias)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, None]
        return (self.frozen(rows) + self.way_in(self.control(rows).relu())).mean(dim=(1, 2))[
            :, None
        ]


def zero_convolution() -> Case:
    return plain(ZeroConv())


class Experts(nn.Module):
    """A mixture in which this batch leaves one expert out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(26)
        self.router = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 1) for _ in range(3))
        with torch.no_grad():
            self.router.bias[2] = -50

    def forward(self, x: Tensor) -> Tensor:
        weight, index = self.router(x).softmax(dim=1).max(dim=1)
        answer = torch.zeros(len(x), 1)
        for number, expert in enumerate(self.experts):
            rows = (index == number).nonzero()[:, 0]
            if len(rows):
                answer = answer.index_add(0, rows, expert(x[rows]) * weight[rows, None])
        return answer


def unused_expert() -> Case:
    return plain(Experts())


def dropped_half() -> Case:
    model = nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5), nn.ReLU(), nn.Linear(40, 1))
    return plain(model.train())


def masked_attention() -> Case:
    """Minus infinity in the scores is how attention is masked."""
    torch.manual_seed(27)
    layer = nn.MultiheadAttention(6, 2, batch_first=True)
    model = nn.ModuleDict({"attention": layer, "head": nn.Linear(6, 1)})
    x, y = inputs()[None], truth()
    future = torch.full((7, 7), float("-inf")).triu(1)

    def loss() -> Tensor:
        state, _ = layer(x, x, x, attn_mask=future)
        return F.mse_loss(model["head"](state)[0], y)

    return Case(model, loss)


def forbidden_words() -> Case:
    def forbid(h: Tensor) -> Tensor:
        scores = h.clone()
        scores[:, 0] = float("-inf")
        return F.softmax(scores, dim=1)

    return early(forbid)


# --- layers and optimizers as people use them


def transformer() -> Case:
    torch.manual_seed(28)
    model = nn.Transformer(6, 2, 1, 1, 8, dropout=0.2, batch_first=True)
    x = inputs(8).view(2, 4, 6)
    return Case(model, lambda: F.mse_loss(model(x, x * 0.5), x))


def recurrent() -> Case:
    torch.manual_seed(29)
    model = nn.LSTM(6, 4, num_layers=2, bidirectional=True, batch_first=True)
    x = inputs(8).view(2, 4, 6)
    return Case(model, lambda: model(x)[0].square().mean(), groups={"lstm": "."})


def normed_weights() -> Case:
    torch.manual_seed(30)
    model = nn.Sequential(
        weight_norm(nn.Linear(6, 5)), nn.Tanh(), spectral_norm(nn.Linear(5, 5)), nn.Linear(5, 1)
    )
    return plain(model)


def batch_norm() -> Case:
    torch.manual_seed(31)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 3, bias=False), nn.BatchNorm1d(3),
        nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 1),
    )  # fmt: skip
    return plain(model.train())


def autocast() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = model(x)
        return F.mse_loss(answer.float(), y)

    return Case(model, loss, AdamW(model.parameters()))


def sparse_words() -> Case:
    torch.manual_seed(32)
    model = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Linear(4, 1))
    ids, y = torch.arange(7), truth()
    return Case(model, lambda: F.mse_loss(model(ids), y), SGD(model.parameters(), lr=0.1))


def tied_weights() -> Case:
    torch.manual_seed(33)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    model[1].weight = model[0].weight
    ids = torch.arange(7)
    return Case(model, lambda: F.cross_entropy(model(ids), ids + 1), AdamW(model.parameters()))


def accumulation() -> Case:
    """Gradients of the microbatches before are there already."""
    case = plain(Net())
    optimizer = AdamW(case.model.parameters(), lr=1e-3)
    for _ in range(2):
        (case.loss_fn() / 3).backward()
    return Case(case.model, case.loss_fn, optimizer)


def functional_call() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        weights = {name: param * 1.0 for name, param in model.named_parameters()}
        return F.mse_loss(torch.func.functional_call(model, weights, (x,)), y)

    return Case(model, loss)


def users_hooks() -> Case:
    """Hooks of the user's own, on modules and on weights."""
    case = plain(Net())
    case.model.first.register_forward_hook(lambda _, args, out: note(out.detach()))
    case.model.last.register_full_backward_hook(lambda *given: note(len(given)))
    case.model.first.weight.register_hook(lambda grad: grad * 0.5)
    return case


def bfloat16_weights() -> Case:
    case = plain(Net())
    model, x, y = case.model.bfloat16(), inputs().bfloat16(), truth().bfloat16()
    return Case(model, lambda: F.mse_loss(model(x), y), AdamW(model.parameters()))


def evaluation_mode() -> Case:
    """Fine-tuning with dropout off is unusual and no fault."""
    return plain(nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.9), nn.Linear(3, 1)).eval())


def two_optimizers() -> Case:
    """The generator's step of a GAN: its critic has an optimizer of its own."""
    torch.manual_seed(34)
    generator, critic = Net(), nn.Linear(1, 1)
    x = inputs()
    optimizer = AdamW(generator.parameters(), lr=1e-3)
    return Case(generator, lambda: F.softplus(-critic(generator(x))).mean(), optimizer)


def teacher() -> Case:
    """Distillation from a frozen copy that is no part of the model."""
    model, x = Net(), inputs()
    old = copy.deepcopy(model).requires_grad_(False).eval()
    with torch.no_grad():
        old.first.weight += 0.5
    return Case(model, lambda: F.mse_loss(model(x), old(x)))


HEALTHY = (
    rezero,
    zero_convolution,
    unused_expert,
    dropped_half,
    masked_attention,
    forbidden_words,
    transformer,
    recurrent,
    normed_weights,
    batch_norm,
    autocast,
    sparse_words,
    tied_weights,
    accumulation,
    functional_call,
    users_hooks,
    bfloat16_weights,
    evaluation_mode,
    two_optimizers,
    teacher,
)
