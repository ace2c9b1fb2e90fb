"""Follow one pass: which values depend on trainable weights, and where they lose their graph.

Every call of torch passes through a function mode. A value that depends on a trainable weight gets
a `Step`, which knows the steps it was made from, the statement and the module that made it, and
whether it carries the graph. Dependence is followed where the graph is not: through no_grad,
detach, numbers and arrays. Backward, hooks note how large the gradient is at each step.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vasculora.engine.audit.operations import READING, SHRINKING, name_of, stem
from vasculora.engine.audit.places import Place, here, statement
from vasculora.engine.audit.steps import (
    Call,
    Overwrite,
    Sources,
    Step,
    storage_of,
    values_in,
    written_by,
    zeros_in,
)
from vasculora.engine.audit.switches import Switches, inference_mode_watched
from vasculora.engine.audit.values import TracedArray, TracedFloat, traced


@dataclass(eq=False)
class Trace(TorchFunctionMode):
    """A pass being followed.

    Attributes:
        weights: Trainable weights by name.
        module_names: Name of each module of the model, by id.
        switches: What keeps the graph off.
        steps: Everything that depends on a weight, in order; the weights first.
        roots: The step of each weight.
        overwrites: Every statement that wrote into a tensor.
        frozen: Weights that were frozen meanwhile: where, and as which kind of cut.
        ran: Names of the modules that ran.
        last_module: The part that ran when torch was last called.
    """

    weights: Mapping[str, nn.Parameter]
    module_names: Mapping[int, str]
    switches: Switches = field(init=False)
    steps: list[Step] = field(default_factory=list)
    roots: dict[str, Step] = field(default_factory=dict)
    overwrites: list[Overwrite] = field(default_factory=list)
    frozen: dict[str, tuple[str, Place | None]] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    last_module: str = ""
    _running: list[str] = field(default_factory=list)
    _known: dict[int, tuple[Any, Step]] = field(default_factory=dict)
    _by_storage: dict[int, Step] = field(default_factory=dict)
    _writes: dict[int, Step] = field(default_factory=dict)
    _unwrapped: dict[int, Place | None] = field(default_factory=dict)
    _numbers: dict[float, Step] = field(default_factory=dict)
    _made: dict[int, tuple[Tensor, Place | None, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with the weights themselves."""
        super().__init__()
        self.switches = Switches(lambda: self.module)
        for name, weight in self.weights.items():
            module = name.rpartition(".")[0]
            step = self._add(name=name, live=weight.requires_grad, module=module)
            self.roots[name] = step
            self._remember(weight, step)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow what runs inside, and which module runs it."""
        hooks = (
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        )
        try:
            unwrapping = (_parameters_watched(self._unwrapped), _Unwrapping(self._unwrapped))
            with inference_mode_watched(self.switches), unwrapping[0], unwrapping[1], self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def module(self) -> str:
        """Name of the module that is running; empty outside of all."""
        return self._running[-1] if self._running else ""

    def made_at(self, value: Any) -> tuple[Place | None, bool]:
        """Return where a single number without a weight's part was made, and if from tensors."""
        _, place, from_tensors = self._made.get(id(value), (None, None, False))
        return place, from_tensors

    def settle(self) -> None:
        """Read what the steps have measured, once the pass is over."""
        for step in self.steps:
            step.gradient = None if step.peak is None else float(step.peak)
            step.is_finite = step.finite is None or bool(step.finite)

    # -- the function mode ---------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = "round" if kwargs.get("rounding_mode") else name_of(func)
        call = Call(name, args, kwargs, tuple(values_in((args, kwargs))))
        if call.name == "_set_grad_enabled":
            self.switches.flag_set(bool(args[0]))
        self.last_module = self.module
        sources = self._sources(call.values)
        result = func(*args, **kwargs)
        written = written_by(call)
        if written is not None:
            self.overwrites.append(Overwrite(here(), tuple(written.shape), self.module))
        if call.name in ("requires_grad_", "requires_grad="):
            self._flagged(call, sources)
        elif sources:
            return self._record(call, sources, result, written)
        elif isinstance(result, Tensor) and result.numel() == 1:
            from_tensors = any(isinstance(item, Tensor) for item in call.items)
            self._made[id(result)] = (result, here(), from_tensors)
        return result

    def _record(self, call: Call, sources: Sources, result: Any, written: Tensor | None) -> Any:
        if written is not None:
            step = self._step(call, sources, written)
            self._remember(written, step)
            self._writes[storage_of(written)] = step
            return result
        if call.name in READING:
            return self._read(call.name, sources, result)
        given = {id(item) for item in call.items}
        for made in values_in(result):
            if isinstance(made, Tensor) and id(made) not in given:
                step = self._step(call, sources, made)
                self._remember(made, step)
                if _is_leaf(made) and not step.within:
                    self._leaf(made, ((step, False),), here())
        return result

    def _read(self, name: str, sources: Sources, result: Any) -> Any:
        """Give a number or array that leaves torch its origin."""
        step = self._add(name=name, parents=sources, place=here(), module=self.module)
        step.off = self.switches.off
        if isinstance(result, float) and result != round(result, 2):
            self._numbers[result] = step
        if name in ("__float__", "__int__", "__index__", "__bool__"):
            return result  # Python asks for the plain number, and complains of any other
        value = traced(result, step)
        if isinstance(value, TracedArray) and value.size:
            self._known[id(value)] = (value, step)  # kept alive: its memory names it
            self._by_storage[int(value.__array_interface__["data"][0])] = step
        return value

    def _step(self, call: Call, sources: Sources, made: Tensor) -> Step:
        within = self._is_within()
        step = self._add(
            name=call.name,
            parents=sources,
            live=made.grad_fn is not None,
            place=_application() if within else here(),
            module=self.module,
            off=self.switches.off,
            within=within,
            reentrant=self.switches.in_checkpoint,
            dtype=made.dtype,
            zeros=zeros_in(call),
            is_empty=made.numel() == 0,
            is_lost=stem(call.name) in SHRINKING and not bool(made.any()),
        )
        if made.dtype.is_floating_point:
            step.finite = torch.isfinite(made).all()
        self._watch(step, made)
        return step

    def _flagged(self, call: Call, sources: Sources) -> None:
        """Take note of a tensor whose requires_grad was set by hand."""
        tensor = call.args[0]
        wanted = (*call.args[1:], call.kwargs.get("requires_grad", True))[0]
        root = next((s for s in self.roots.values() if self.weights[s.name] is tensor), None)
        if root is not None:
            if not wanted and root.name not in self.frozen:
                place = here(skip=("peft",))
                kind = "frozen" if here() == place else "adapter_disabled"
                self.frozen[root.name] = (kind, place)
        elif wanted and sources and tensor.grad_fn is None:
            self._leaf(tensor, sources, here())

    # -- what a value depends on ---------------------------------------------------------------

    def _sources(self, items: Iterable[Any]) -> Sources:
        """Return the steps a call's arguments come from, and whether each carries the graph."""
        found: dict[Step, bool] = {}
        for item in items:
            if isinstance(item, Tensor):
                for step in self.of(item):
                    found[step] = found.get(step, False) or item.requires_grad
            else:
                for step in self.of(item):
                    found.setdefault(step, False)
        return tuple(found.items())

    def of(self, value: Any) -> tuple[Step, ...]:
        """Return the steps a value comes from; none where no weight has a part in it."""
        if isinstance(value, Tensor):
            return self._of_tensor(value)
        if isinstance(value, TracedFloat | TracedArray):
            return () if value.origin is None else (value.origin,)
        number = self._numbers.get(value) if isinstance(value, float) else None
        return () if number is None else (number,)

    def _of_tensor(self, tensor: Tensor) -> tuple[Step, ...]:
        entry, storage = self._known.get(id(tensor)), storage_of(tensor)
        write = self._writes.get(storage)
        if entry is None:
            origin = write or self._by_storage.get(storage)
            return () if origin is None else (self._alias(tensor, origin),)
        step = entry[1]
        if _is_leaf(tensor) and not step.live and not step.within:
            return (self._leaf(tensor, ((step, False),), self._made_leaf(tensor)),)
        if step.within and not step.live and tensor.requires_grad:
            step.live = True  # it came out of its custom function with a graph
            self._name_custom(step, tensor)
            self._watch(step, tensor)
        return (step, write) if write is not None and write.index > step.index else (step,)

    def _alias(self, tensor: Tensor, origin: Step) -> Step:
        """Return the step of a tensor that appeared without a call, on memory that is known."""
        if _is_leaf(tensor):
            return self._leaf(tensor, ((origin, False),), self._made_leaf(tensor))
        step = self._add(
            name="alias",
            parents=((origin, tensor.requires_grad),),
            live=tensor.requires_grad,
            place=self._made_leaf(tensor),
            module=self.module,
            off=self.switches.off,
            dtype=tensor.dtype,
        )
        self._remember(tensor, step)
        self._name_custom(step, tensor)
        self._watch(step, tensor)
        return step

    def _made_leaf(self, tensor: Tensor) -> Place | None:
        """Return where a value was taken out of its graph unseen, or else where it is used."""
        return self._unwrapped.get(storage_of(tensor)) or here()

    def _leaf(self, tensor: Tensor, sources: Sources, place: Place | None) -> Step:
        """Return the step of a value that was declared trainable without a graph."""
        step = self._add(
            name="leaf",
            parents=tuple((step, False) for step, _ in sources),
            live=True,
            place=place,
            module=self.module,
            dtype=tensor.dtype,
        )
        self._remember(tensor, step)
        return step

    def _name_custom(self, step: Step, tensor: Tensor) -> None:
        if isinstance(tensor.grad_fn, BackwardCFunction):
            step.custom = tensor.grad_fn.name()

    def _watch(self, step: Step, tensor: Tensor) -> None:
        """Note the gradient that comes back to a step."""
        if tensor.grad_fn is not None:
            tensor.grad_fn.register_hook(partial(_note, step, tensor.output_nr))

    # -- bookkeeping ---------------------------------------------------------------------------

    def _add(self, **fields: Any) -> Step:
        step = Step(index=len(self.steps), **fields)
        self.steps.append(step)
        return step

    def _remember(self, tensor: Tensor, step: Step) -> None:
        # tensors are kept alive while the pass lasts, so neither id nor memory changes hands
        self._known[id(tensor)] = (tensor, step)
        if storage := storage_of(tensor):
            self._by_storage.setdefault(storage, step)

    def _is_within(self) -> bool:
        """Return whether a custom function's forward runs, whose outputs get their graph later."""
        if self.switches.off or torch.is_inference_mode_enabled():
            return False
        return self.switches.in_checkpoint or not torch.is_grad_enabled()

    def _enter_module(self, module: nn.Module, _: Any) -> None:
        name = self.module_names.get(id(module), type(module).__name__)
        self._running.append(name)
        self.ran.add(name)

    def _leave_module(self, module: nn.Module, *_: Any) -> None:
        if self._running:
            self._running.pop()


@contextmanager
def _parameters_watched(places: dict[int, Place | None]) -> Iterator[None]:
    """Note where values become weights: no mode sees `nn.Parameter(x)`."""
    original = nn.Parameter.__dict__["__new__"]

    def watched(*args: Any, **kwargs: Any) -> Any:
        made = original.__func__(*args, **kwargs)
        with torch._C.DisableTorchFunction():  # asking for its memory is a call of torch too
            places[storage_of(made)] = here()
        return made

    nn.Parameter.__new__ = staticmethod(watched)  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Parameter.__new__ = original  # type: ignore[method-assign]


class _Unwrapping(TorchDispatchMode):
    """Notes where values are detached by calls that the function mode does not see."""

    def __init__(self, places: dict[int, Place | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places = places

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:
            self.places[storage_of(args[0])] = here()
        with torch._C.DisableTorchFunction():
            return func(*args, **(kwargs or {}))


def _note(step: Step, number: int, _: Any, grads: tuple[Tensor | None, ...]) -> None:
    """Keep the size of a step's gradient, without waiting for it."""
    grad = grads[number] if number < len(grads) else None
    if grad is not None and grad.numel():
        step.peak = grad.detach().abs().amax()


def _is_leaf(tensor: Tensor) -> bool:
    """Return whether a value was declared trainable."""
    # a view that was made without a graph says that it requires a gradient as its base does
    return tensor.requires_grad and tensor.grad_fn is None and not tensor._is_view()


def _application() -> Place | None:
    """Return the statement that applied the custom function that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _APPLY:
            return statement(frame)
        frame = frame.f_back
    return here()


_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]
