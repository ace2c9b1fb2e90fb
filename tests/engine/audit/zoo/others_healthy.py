"""What other people do on purpose, and what other people's models are made of: all of it learns."""

import copy
import warnings

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, Two, inputs, plain, truth
from tests.engine.audit.zoo.case import Case
from torch import Tensor, nn
from torch.ao.quantization import FakeQuantize
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.optim import Adam, AdamW, SparseAdam
from torch.utils.checkpoint import checkpoint_sequential

# --- designs of learning


class Distilled(nn.Module):
    """A student and the average that follows it, in one model."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Net()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = self.teacher(x + 0.1)
        return self.student(x), target


def average_as_target() -> Case:
    model, x = Distilled(), inputs()
    optimizer = AdamW(model.student.parameters(), lr=1e-3)
    return Case(model, lambda: F.mse_loss(*model(x)), optimizer)


def own_answer_as_target() -> Case:
    model, x = Net(), inputs()
    return Case(model, lambda: F.mse_loss(model(x), (model(x) * 0.9 + 0.1).detach()))


def value_of_zero() -> Case:
    """The loss is zero, its slope is not."""
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        error = F.mse_loss(model(x), y)
        return error - error.detach()

    return Case(model, loss)


def normalised_loss() -> Case:
    """Every term divided by its own size."""
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        terms = [F.mse_loss(answer, y) for answer in model(x)]
        return sum(term / term.detach().clamp(min=1e-6) for term in terms)

    return Case(model, loss)


class Reverse(torch.autograd.Function):
    """Turns the gradient around."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        return -0.5 * grad


def gradient_reversal() -> Case:
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        h = torch.tanh(model.trunk(x))
        domain = model.right(Reverse.apply(h))
        return F.mse_loss(model.left(h), y) + F.binary_cross_entropy_with_logits(
            domain, (y > 0) * 1.0
        )

    return Case(model, loss)


def reinforce() -> Case:
    torch.manual_seed(70)
    model, x = nn.Linear(6, 3), inputs()

    def loss() -> Tensor:
        policy = torch.distributions.Categorical(logits=model(x))
        action = policy.sample()
        reward = (action == 1).float()
        return -(policy.log_prob(action) * (reward - reward.mean() + 0.1)).mean()

    return Case(model, loss, groups={"policy": "."})


def actor_critic() -> Case:
    model, x = Two(), inputs()

    def loss() -> Tensor:
        mean, value = model(x)
        policy = torch.distributions.Normal(mean, 0.5)
        action = policy.sample()
        returns = -action.square()
        advantage = (returns - value).detach()
        return -(policy.log_prob(action) * advantage).mean() + F.mse_loss(value, returns)

    return Case(model, loss)


class Contrast(nn.Module):
    """A queue of earlier keys, kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(71)
        self.encoder = nn.Linear(6, 4)
        self.register_buffer("queue", F.normalize(torch.randn(4, 21), dim=0))
        self.register_buffer("place", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        start = int(self.place)
        self.queue[:, start : start + len(keys)] = keys.T
        self.place[0] = (start + len(keys)) % self.queue.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        query = F.normalize(self.encoder(x), dim=1)
        with torch.no_grad():
            key = F.normalize(self.encoder(x + 0.1), dim=1)
        scores = torch.cat([(query * key).sum(1, keepdim=True), query @ self.queue.clone()], 1)
        self.enqueue(key)
        return F.cross_entropy(scores / 0.2, torch.zeros(len(x), dtype=torch.long))


def queue_of_keys() -> Case:
    model, x = Contrast(), inputs()
    return Case(model, lambda: model(x), Adam(model.parameters()))


def truncated_in_time() -> Case:
    torch.manual_seed(72)
    model = nn.ModuleDict({"rnn": nn.GRU(6, 4), "head": nn.Linear(4, 1)})
    x, y, kept = inputs(8)[:, None], truth(8), {"h": None}

    def loss() -> Tensor:
        total = torch.zeros(())
        for part, wanted in zip(x.split(4), y.split(4), strict=True):
            state = None if kept["h"] is None else kept["h"].detach()
            out, kept["h"] = model["rnn"](part, state)
            total = total + F.mse_loss(model["head"](out)[:, 0], wanted)
        return total

    return Case(model, loss)


def variational() -> Case:
    torch.manual_seed(73)
    model = nn.ModuleDict({"encode": nn.Linear(6, 4), "decode": nn.Linear(2, 6)})
    x = inputs()

    def loss() -> Tensor:
        mean, spread = model["encode"](x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        prior = -0.5 * (1 + spread - mean.square() - spread.exp()).sum(1).mean()
        return F.mse_loss(model["decode"](z), x) + 0.1 * prior

    return Case(model, loss)


def denoising() -> Case:
    torch.manual_seed(74)
    model, x = nn.Sequential(nn.Linear(7, 8), nn.SiLU(), nn.Linear(8, 6)), inputs()
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 50), 0)

    def loss() -> Tensor:
        t = torch.randint(0, 50, (len(x),))
        noise, a = torch.randn_like(x), alphas[t][:, None]
        noisy = a.sqrt() * x + (1 - a).sqrt() * noise
        return F.mse_loss(model(torch.cat([noisy, t[:, None] / 50], 1)), noise)

    return Case(model, loss)


def quantised_in_training() -> Case:
    model = Net(FakeQuantize(quant_min=0, quant_max=255)).train()
    return plain(model, Adam(model.parameters()))


# --- layers and numbers


def packed_words() -> Case:
    torch.manual_seed(75)
    model = nn.ModuleDict({"rnn": nn.LSTM(6, 4, batch_first=True), "head": nn.Linear(4, 1)})
    x = inputs(8).view(2, 4, 6)

    def loss() -> Tensor:
        packed = pack_padded_sequence(x, torch.tensor([4, 2]), batch_first=True)
        out, _ = pad_packed_sequence(model["rnn"](packed)[0], batch_first=True)
        return model["head"](out).square().mean()

    return Case(model, loss)


def sparse_adam() -> Case:
    torch.manual_seed(76)
    model = nn.EmbeddingBag(50, 3, sparse=True, mode="sum")
    ids = torch.arange(8).view(2, 4)
    optimizer = SparseAdam(model.parameters(), lr=0.1)
    return Case(model, lambda: model(ids).square().mean(), optimizer, {"bag": "."})


def attention_with_weights() -> Case:
    torch.manual_seed(77)
    model, x = nn.MultiheadAttention(6, 2, batch_first=True, bias=False), inputs(8).view(2, 4, 6)

    def loss() -> Tensor:
        out, weights = model(x, x, x, need_weights=True, average_attn_weights=False)
        return F.mse_loss(out, x) + 0.1 * weights.square().mean()

    return Case(model, loss, groups={"attention": "."})


def attention_with_a_mask() -> Case:
    torch.manual_seed(78)
    model, x = nn.Linear(6, 18), inputs(8).view(2, 4, 6)
    keep = torch.ones(4, 4, dtype=torch.bool).tril()

    def loss() -> Tensor:
        q, k, v = model(x).chunk(3, dim=-1)
        return (F.scaled_dot_product_attention(q, k, v, attn_mask=keep) - x).square().mean()

    return Case(model, loss, groups={"qkv": "."})


def spectrum() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        answer = torch.fft.rfft(model(x)[:, 0])
        return (answer - torch.fft.rfft(y[:, 0])).abs().mean()

    return Case(model, loss)


def complex_weights() -> Case:
    torch.manual_seed(79)
    model, x = nn.Linear(6, 3, dtype=torch.complex64), inputs().to(torch.complex64)
    return Case(model, lambda: model(x).abs().square().mean(), AdamW(model.parameters()))


def checkpointed() -> Case:
    torch.manual_seed(80)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(4)))
    x = inputs()
    return Case(model, lambda: checkpoint_sequential(model, 2, x, use_reentrant=False).mean())


def spectral_in_training() -> Case:
    torch.manual_seed(81)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), parametrizations.spectral_norm(nn.Linear(5, 1))
    )
    return plain(model, AdamW(model.parameters()))


def batched_by_vmap() -> Case:
    model, x, y = Net(), inputs(), truth()
    one = torch.vmap(lambda row: model(row[None])[0])
    return Case(model, lambda: F.mse_loss(one(x), y))


def slope_by_functions() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        slope = torch.func.vmap(torch.func.grad(lambda row: model(row[None]).sum()))(x)
        return F.mse_loss(model(x), y) + 0.01 * slope.square().mean()

    return Case(model, loss)


def compiled(backend: str) -> Case:
    model, x, y = Net(), inputs(), truth()
    fast = torch.compile(model, backend=backend)
    return Case(model, lambda: F.mse_loss(fast(x), y))


def compiled_itself() -> Case:
    x, y = inputs(), truth()
    model = torch.compile(Net(), backend="eager")
    model(x)  # the compiler patches torch once, when it first runs
    return Case(model, lambda: F.mse_loss(model(x), y), groups={"all": "."})


def traced() -> Case:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plain(torch.jit.trace(Net(), inputs()))


def deterministic() -> Case:
    case = plain(Net())

    def loss() -> Tensor:
        torch.use_deterministic_algorithms(True)
        try:
            return case.loss_fn()
        finally:
            torch.use_deterministic_algorithms(False)

    return Case(case.model, loss)


OTHER_HEALTHY = (
    average_as_target, own_answer_as_target, value_of_zero, normalised_loss, gradient_reversal,
    reinforce, actor_critic, queue_of_keys, truncated_in_time, variational, denoising,
    quantised_in_training, packed_words, sparse_adam, attention_with_weights,
    attention_with_a_mask, spectrum, complex_weights, checkpointed, spectral_in_training,
    batched_by_vmap, slope_by_functions, compiled_itself, traced, deterministic,
)  # fmt: skip
