"""Healthy designs in which a value leaves the graph on purpose."""

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, Two, early, inputs, note, truth
from tests.engine.audit.zoo.case import Case
from torch import Tensor, nn

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


DESIGNS = (
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
)
