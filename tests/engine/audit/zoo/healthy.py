"""Set-ups in which everything learns, and which still hold what looks like a fault."""

import copy

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, Two, early, inputs, note, plain, truth
from tests.engine.audit.zoo.case import Case
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim import SGD, AdamW

# --- values that leave the graph by design


def straight_through(h: Tensor) -> Tensor:
    return h + (torch.round(h * 4) / 4 - h).detach()


def straight_through_estimator() -> Case:
    return early(straight_through)


def binary_straight_through() -> Case:
    def binary(h: Tensor) -> Tensor:
        probability = torch.sigmoid(h)
        hard = (probability > 0.5).float()
        return hard - probability.detach() + probability

    return early(binary)


def gumbel_softmax_hard() -> Case:
    return early(lambda h: F.gumbel_softmax(h, hard=True))


def shifted_softmax() -> Case:
    """The usual guard against overflow: the maximum is taken as a constant."""

    def softmax(h: Tensor) -> Tensor:
        weights = (h - h.max(dim=1, keepdim=True).values.detach()).exp()
        return weights / weights.sum(dim=1, keepdim=True)

    return early(softmax)


def best_values() -> Case:
    """Top-k by index: the values carry the gradient."""
    return early(lambda h: h.gather(1, h.topk(5, dim=1).indices))


class Codebook(nn.Module):
    """A vector-quantised bottleneck, with its two losses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(21)
        self.encoder = nn.Linear(6, 3)
        self.codes = nn.Embedding(4, 3)
        self.decoder = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        state = self.encoder(x)
        code = self.codes(torch.cdist(state, self.codes.weight).argmin(dim=1))
        tied = F.mse_loss(code, state.detach()) + 0.25 * F.mse_loss(state, code.detach())
        return F.mse_loss(self.decoder(state + (code - state).detach()), x) + tied


def vector_quantisation() -> Case:
    model, x = Codebook(), inputs()
    return Case(model, lambda: model(x))


def stop_gradient_on_one_branch() -> Case:
    """Two views; the one is the goal of the other, and the other way round."""
    torch.manual_seed(22)
    encoder, predictor = nn.Linear(6, 4), nn.Linear(4, 4)
    model = nn.ModuleDict({"encoder": encoder, "predictor": predictor})
    x = inputs()

    def loss() -> Tensor:
        one, two = encoder(x + 0.1 * torch.randn_like(x)), encoder(x)
        forth = F.cosine_similarity(predictor(one), two.detach()).mean()
        return -forth - F.cosine_similarity(predictor(two), one.detach()).mean()

    return Case(model, loss)


def momentum_encoder() -> Case:
    """The slow copy is made of buffers that move in every step."""
    torch.manual_seed(23)
    model = nn.Module()
    model.fast = nn.Linear(6, 4)
    model.register_buffer("slow_weight", torch.randn(4, 6))
    model.register_buffer("num_steps", torch.tensor(0))
    x = inputs()

    def loss() -> Tensor:
        with torch.no_grad():
            model.slow_weight.mul_(0.9).add_(0.1 * model.fast.weight)
            model.num_steps += 1
            goal = F.linear(x, model.slow_weight)
        return F.mse_loss(model.fast(x), goal)

    return Case(model, loss)


def reward_of_a_sample() -> Case:
    """Policy gradient: the reward is a number, the log-probability has the graph."""
    model, x = Net(), inputs()

    def loss() -> Tensor:
        policy = torch.distributions.Normal(model(x), 1.0)
        action = policy.sample()
        reward = torch.tensor([float(value) for value in action.square()])
        return -(policy.log_prob(action)[:, 0] * (reward - reward.mean())).mean()

    return Case(model, loss)


def pseudo_labels() -> Case:
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        with torch.no_grad():
            labels = (torch.sigmoid(model(x)[0]) > 0.5).float()
        left, right = model(x)
        sure = F.binary_cross_entropy_with_logits(right, labels)
        return F.mse_loss(left, y) + sure * sure.detach().exp()

    return Case(model, loss)


def gradient_penalty() -> Case:
    model, y = Net(), truth()
    x = inputs().requires_grad_(True)

    def loss() -> Tensor:
        answer = model(x)
        (slope,) = torch.autograd.grad(answer.sum(), x, create_graph=True)
        return F.mse_loss(answer, y) + (slope.norm(dim=1) - 1).square().mean()

    return Case(model, loss)


def everything_logged() -> Case:
    """All the words of a training loop's log in one closure."""
    model, x, y = Net(), inputs(), truth()
    running = [0.0]

    def loss() -> Tensor:
        answer = model(x)
        value = F.mse_loss(answer, y)
        running[0] = 0.9 * running[0] + 0.1 * value.item()
        note({"loss": float(value), "answers": answer.detach().numpy().mean()})
        note([int(a > 0) for a in answer.tolist()[0]])
        note(torch.tensor(answer.data).sign().long().argmax())
        note(sum(p.detach().norm() for p in model.parameters()))
        assert torch.isfinite(value)
        return value

    return Case(model, loss)


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
    straight_through_estimator,
    binary_straight_through,
    gumbel_softmax_hard,
    shifted_softmax,
    best_values,
    vector_quantisation,
    stop_gradient_on_one_branch,
    momentum_encoder,
    reward_of_a_sample,
    pseudo_labels,
    gradient_penalty,
    everything_logged,
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
