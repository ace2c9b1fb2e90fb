"""Grad modes in the places where people hide them: properties, hooks, generators, contexts."""

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo import others_library as library
from tests.engine.audit.zoo.carriers import Net, Op, aside, beside, early, inputs, plain, truth
from tests.engine.audit.zoo.case import Case, Fault
from torch import Tensor, nn


class Toolbox:
    """Methods of every sort, each without a graph."""

    def __init__(self, h: Tensor) -> None:
        self.h = h

    @property
    @torch.no_grad()  # cut
    def doubled(self) -> Tensor:
        return self.h * 2


class Statics:
    @staticmethod
    @torch.no_grad()  # cut
    def doubled(h: Tensor) -> Tensor:
        return h * 2


class Classes:
    factor = 2.0

    @classmethod
    @torch.inference_mode()  # cut
    def doubled(cls, h: Tensor) -> Tensor:
        return h * cls.factor


def by_property(h: Tensor) -> Tensor:
    return Toolbox(h).doubled


def by_static_method(h: Tensor) -> Tensor:
    return Statics.doubled(h)


def by_class_method(h: Tensor) -> Tensor:
    return Classes.doubled(h).clone()


@library.retried(2)
@torch.no_grad()  # cut
@library.retried(1)
def under_a_stack(h: Tensor) -> Tensor:
    return torch.tanh(h) + 1


@torch.no_grad()  # cut
def rows_of(h: Tensor) -> Iterator[Tensor]:
    for row in h:
        yield row * 3


def by_generator(h: Tensor) -> Tensor:
    return torch.stack(list(rows_of(h)))


def blocks_of(h: Tensor) -> Iterator[Tensor]:
    for row in h:
        with torch.no_grad():  # cut
            block = row * 2
        yield block


def by_generator_with_a_block(h: Tensor) -> Tensor:
    return torch.stack(list(blocks_of(h)))


def by_helper_context(h: Tensor) -> Tensor:
    with library.evaluating():  # cut
        return h.sin()


def by_own_context(h: Tensor) -> Tensor:
    with library.Quiet():  # cut
        return h * 1.5


def by_stacked_context(h: Tensor) -> Tensor:
    with library.Stacked() as _:  # cut
        return h * 1.5


def by_exit_stack(h: Tensor) -> Tensor:
    with contextlib.ExitStack() as stack:  # or
        stack.enter_context(torch.no_grad())  # cut
        return h.exp()


def by_chosen_context(h: Tensor) -> Tensor:
    context = contextlib.nullcontext() if h is None else torch.no_grad()
    with context:  # cut
        return h * 2


def by_helper_switch(h: Tensor) -> Tensor:
    library.grad_mode(False)  # or
    state = h.cos()
    library.grad_mode(True)
    return state


def by_lambda(h: Tensor) -> Tensor:
    work = torch.no_grad()(lambda value: value * 2 + 1)  # cut
    return work(h)


def by_two_modes(h: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False), torch.no_grad():  # cut
        return h * 2


def by_enabled_then_disabled(h: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad(), torch.set_grad_enabled(False):  # cut
        return h + 1


def by_comprehension(h: Tensor) -> Tensor:
    @torch.no_grad()  # cut
    def one(row: Tensor) -> Tensor:
        return row.square()

    return torch.stack([one(row) for row in h])


def across_lines(h: Tensor) -> Tensor:
    with (  # cut
        contextlib.suppress(KeyError),
        torch.no_grad(),  # or
    ):
        return h * 4


OPS: dict[Op, tuple[str, tuple[object, ...]]] = {
    by_property: ("no_grad", (Toolbox,)),
    by_static_method: ("no_grad", (Statics,)),
    by_class_method: ("inference_mode", (Classes,)),
    under_a_stack: ("no_grad", (under_a_stack,)),
    by_generator: ("no_grad", (rows_of,)),
    by_generator_with_a_block: ("no_grad", (blocks_of,)),
    by_helper_context: ("no_grad", (by_helper_context, library.evaluating)),
    by_own_context: ("no_grad", (by_own_context, library.Quiet)),
    by_stacked_context: ("no_grad", (by_stacked_context, library.Stacked)),
    by_exit_stack: ("no_grad", (by_exit_stack,)),
    by_chosen_context: ("no_grad", (by_chosen_context,)),
    by_helper_switch: ("set_grad_enabled", (by_helper_switch, library.grad_mode)),
    by_lambda: ("no_grad", (by_lambda,)),
    by_two_modes: ("no_grad", (by_two_modes,)),
    by_enabled_then_disabled: ("set_grad_enabled", (by_enabled_then_disabled,)),
    by_comprehension: ("no_grad", (by_comprehension,)),
    across_lines: ("no_grad", (across_lines,)),
}

# --- leaks and hooks


def leaked() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        warm = library.leaky_warmup(x)  # or
        return F.mse_loss(model(warm), y)

    return Case(model, loss)


def hooked(detaching: bool) -> Case:
    """An output is read through a hook, as feature extractors do."""
    model, x, y, kept = Net(), inputs(), truth(), {}

    def keep(module: nn.Module, args: object, out: Tensor) -> None:
        kept["h"] = out.detach() if detaching else out  # cut

    model.first.register_forward_hook(keep)

    def loss() -> Tensor:
        model(x)
        return F.mse_loss(model.last(kept["h"]), y)

    return Case(model, loss)


def hook_that_replaces(detaching: bool) -> Case:
    case = plain(Net())
    case.model.first.register_forward_hook(lambda _, args, out: out.detach() * 2)  # cut
    if not detaching:
        case.model.first._forward_hooks.clear()
    return case


def pre_hook(wanted: bool) -> Case:
    """A hook before a module switches the graph off, the one behind it on again."""
    case = plain(Net())

    def before(module: nn.Module, args: object) -> None:
        torch.set_grad_enabled(not wanted)  # cut

    case.model.first.register_forward_pre_hook(before)
    case.model.middle.register_forward_hook(lambda *given: torch.set_grad_enabled(True) and None)
    return case


class Frozen(nn.Module):
    """A wrapper that runs its content without a graph."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():  # cut
            return self.inner(x)


def wrapped_in_a_sequence() -> Case:
    torch.manual_seed(42)
    return plain(nn.Sequential(Frozen(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 1)))


def wrapped_and_frozen() -> Case:
    case = wrapped_in_a_sequence()
    case.model[0].requires_grad_(False)
    return case


class Cached(nn.Module):
    """Encodes once and remembers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(43)
        self.encoder = nn.Linear(6, 5)
        self.head = nn.Linear(5, 1)
        self.cache = None

    def forward(self, x: Tensor) -> Tensor:
        if self.cache is None:  # maybe # or branch_not_taken
            self.cache = self.encoder(x).tanh().detach()  # cut
        return self.head(self.cache)  # or branch_not_taken


def cached(filled: bool) -> Case:
    case = plain(Cached())
    if filled:
        case.loss_fn()
    return case


def faults() -> list[Fault]:
    """Return the operations' faults."""
    return [
        Fault(
            name=f"{op.__name__.replace('_', ' ')}, early",
            kind=kind,
            build=partial(early, op),
            source=source,
            dead=("first",),
            module="middle",
            twins=(partial(aside, op), partial(beside, op)),
        )
        for op, (kind, source) in OPS.items()
    ]


OTHER_MODES = [
    *faults(),
    Fault("no_grad leaked", "no_grad", leaked, (leaked, library.leaky_warmup), ("first", "last")),
    Fault(
        "features from a hook that detaches",
        "detach",
        partial(hooked, True),
        hooked,
        ("first",),
        twins=(partial(hooked, False),),
    ),
    Fault(
        "a hook that replaces the output",
        "detach",
        partial(hook_that_replaces, True),
        hook_that_replaces,
        ("first",),
        twins=(partial(hook_that_replaces, False),),
    ),
    Fault(
        "a hook that switches the graph off",
        "set_grad_enabled",
        partial(pre_hook, True),
        pre_hook,
        ("first",),
        twins=(partial(pre_hook, False),),
    ),
    Fault(
        "a wrapper in a Sequential",
        "no_grad",
        wrapped_in_a_sequence,
        Frozen,
        ("0",),
        twins=(wrapped_and_frozen,),
    ),
    Fault("an answer is cached", "detach", partial(cached, False), Cached, ("encoder",)),
    Fault(
        "an answer was cached before",
        "branch_not_taken",
        partial(cached, True),
        Cached,
        ("encoder",),
    ),
]
