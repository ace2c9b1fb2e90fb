"""Follow one pass: which values depend on trainable weights, and where they lose their graph.

Every call of torch passes through a function mode. A value that depends on a trainable weight gets
a `Step`, which knows the steps it was made from, the statement and the module that made it, and
whether it carries the graph. Dependence is followed where the graph is not: through no_grad,
detach, numbers and arrays. Backward, hooks note how large the gradient is at each step.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from vasculora.engine.audit.operations import MULTIPLYING, READING, is_in_place, name_of, stem
from vasculora.engine.audit.places import Place, here, statement
from vasculora.engine.audit.switches import Switch, Switches
from vasculora.engine.audit.values import TracedArray, TracedFloat, traced


@dataclass(eq=False, slots=True)
class Step:
    """One value that depends on a trainable weight.

    Attributes:
        index: Its turn in the pass.
        name: The call that made it; of a weight, the weight's name.
        parents: What it was made from, and whether each carried the graph then.
        live: Whether it carries the graph.
        place: The statement.
        module: The module that was running.
        off: What had switched the graph off, outermost first.
        within: Whether it was made inside a custom autograd function, whose graph shows later.
        reentrant: Whether that function is a reentrant checkpoint.
        custom: Name of the custom function it came out of.
        dtype: Its number format; None for numbers and arrays.
        by_zero: Whether something in the call that made it is zero throughout.
        gradient: Largest size of the gradient that came back to it; None where none did.
        finite: Whether all of it is finite.
    """

    index: int
    name: str
    parents: tuple[tuple["Step", bool], ...] = ()
    live: bool = False
    place: Place | None = None
    module: str = ""
    off: tuple[Switch, ...] = ()
    within: bool = False
    reentrant: bool = False
    custom: str = ""
    dtype: torch.dtype | None = None
    by_zero: bool = False
    gradient: Tensor | None = None
    finite: Tensor | None = None


@dataclass(eq=False)
class Trace(TorchFunctionMode):
    """A pass being followed.

    Attributes:
        weights: Trainable weights by name.
        switches: What keeps the graph off.
        steps: Everything that depends on a weight, in order; the weights first.
        roots: The step of each weight.
        overwrites: Every statement that wrote into a tensor, with the tensor's shape.
        frozen: Weights that were frozen meanwhile: where, and as which kind of cut.
        ran: Names of the modules that ran.
    """

    weights: Mapping[str, nn.Parameter]
    module_names: Mapping[int, str]
    switches: Switches = field(default_factory=Switches)
    steps: list[Step] = field(default_factory=list)
    roots: dict[str, Step] = field(default_factory=dict)
    overwrites: list[tuple[Place, tuple[int, ...]]] = field(default_factory=list)
    frozen: dict[str, tuple[str, Place | None]] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    _running: list[str] = field(default_factory=list)
    _known: dict[int, tuple[Any, Step]] = field(default_factory=dict)
    _by_storage: dict[int, Step] = field(default_factory=dict)
    _writes: dict[int, Step] = field(default_factory=dict)
    _numbers: dict[float, Step] = field(default_factory=dict)
    _made: dict[int, tuple[Tensor, Place | None, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with the weights themselves."""
        super().__init__()
        for name, weight in self.weights.items():
            module = name.rpartition(".")[0]
            step = self._add(name=name, live=weight.requires_grad, module=module)
            self.roots[name] = step
            self._remember(weight, step)

    # -- the function mode ---------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if name == "_set_grad_enabled":
            self.switches.flag_set(bool(args[0]))
        sources = self._sources((args, kwargs))
        result = func(*args, **kwargs)
        written = _written(name, args, kwargs)
        if name in ("requires_grad_", "requires_grad="):
            self._flagged(args, kwargs, sources)
        elif sources:
            return self._record(name, args, kwargs, sources, result, written)
        elif isinstance(result, Tensor) and result.numel() == 1:
            from_tensors = any(isinstance(item, Tensor) for item in _items((args, kwargs)))
            self._made[id(result)] = (result, here(), from_tensors)
        if written is not None and (place := here()):
            self.overwrites.append((place, tuple(written.shape)))
        return result

    def _record(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        sources: tuple[tuple[Step, bool], ...],
        result: Any,
        written: Tensor | None,
    ) -> Any:
        if written is not None:
            step = self._step(name, args, kwargs, sources, written)
            self._remember(written, step)
            self._writes[_storage(written)] = step
            if step.place is not None:
                self.overwrites.append((step.place, tuple(written.shape)))
            return result
        if name in READING:
            return self._read(name, sources, result)
        given = {id(item) for item in _items((args, kwargs)) if isinstance(item, Tensor)}
        for made in _items(result):
            if isinstance(made, Tensor) and id(made) not in given:
                self._remember(made, self._step(name, args, kwargs, sources, made))
        return result

    def _read(self, name: str, sources: tuple[tuple[Step, bool], ...], result: Any) -> Any:
        """Give a number or array that leaves torch its origin."""
        step = self._add(name=name, parents=sources, place=here(), module=self.module)
        step.off = self.switches.off
        if isinstance(result, float) and result != round(result, 2):
            self._numbers[result] = step
        value = traced(result, step)
        if isinstance(value, TracedArray) and value.size:
            self._known[id(value)] = (value, step)  # kept alive: its memory names it
            self._by_storage.setdefault(int(value.__array_interface__["data"][0]), step)
        return value

    def _step(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        sources: tuple[tuple[Step, bool], ...],
        made: Tensor,
    ) -> Step:
        within = self._is_within()
        step = self._add(
            name=name,
            parents=sources,
            live=made.requires_grad,
            place=_application() if within else here(),
            module=self.module,
        )
        step.reentrant = self.switches.in_checkpoint
        step.within, step.off, step.dtype = within, self.switches.off, made.dtype
        step.by_zero = stem(name) in MULTIPLYING and any(
            _is_zero(x) for x in _items((args, kwargs))
        )
        if made.dtype.is_floating_point:
            step.finite = torch.isfinite(made.detach()).all()
        self._watch(step, made)
        return step

    def _flagged(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        sources: tuple[tuple[Step, bool], ...],
    ) -> None:
        """Take note of a tensor whose requires_grad was set by hand."""
        tensor, wanted = args[0], (*args[1:], kwargs.get("requires_grad", True))[0]
        root = next((s for s in self.roots.values() if self._is(tensor, s)), None)
        if root is not None:
            if not wanted and root.name not in self.frozen:
                place = here(skip=("peft",))
                kind = "frozen" if here() == place else "adapter_disabled"
                self.frozen[root.name] = (kind, place)
        elif wanted and sources and tensor.grad_fn is None:
            self._leaf(tensor, sources)

    def _leaf(self, tensor: Tensor, sources: tuple[tuple[Step, bool], ...]) -> Step:
        parents = tuple((step, False) for step, _ in sources)
        step = self._add(name="leaf", parents=parents, live=True, place=here(), module=self.module)
        step.dtype = tensor.dtype
        self._remember(tensor, step)
        return step

    # -- what a value depends on ---------------------------------------------------------------

    def _sources(self, value: Any) -> tuple[tuple[Step, bool], ...]:
        """Return the steps a call's arguments come from, and whether each carries the graph."""
        found: dict[Step, bool] = {}
        for item in _items(value):
            if isinstance(item, Tensor):
                for step in self.of(item):
                    found[step] = found.get(step, False) or item.requires_grad
            elif isinstance(item, TracedFloat | TracedArray) and item.origin is not None:
                found.setdefault(item.origin, False)
            elif isinstance(item, float) and item in self._numbers:
                found.setdefault(self._numbers[item], False)
        return tuple(found.items())

    def of(self, value: Any) -> tuple[Step, ...]:
        """Return the steps a value comes from; none where no weight has a part in it."""
        if not isinstance(value, Tensor):
            origin = getattr(value, "origin", None)
            origin = self._numbers.get(value) if isinstance(value, float) and not origin else origin
            return () if origin is None else (origin,)
        entry, storage = self._known.get(id(value)), _storage(value)
        write = self._writes.get(storage)
        if entry is not None:
            step = entry[1]
            self._revive(step, value)
            return (step, write) if write is not None and write.index > step.index else (step,)
        alias = write or self._by_storage.get(storage)
        return () if alias is None else (self._alias(value, alias),)

    def _alias(self, tensor: Tensor, origin: Step) -> Step:
        """Return the step of a tensor that appeared without a call, on memory that is known."""
        if tensor.requires_grad and tensor.grad_fn is None:
            return self._leaf(tensor, ((origin, False),))
        step = self._add(
            name="alias",
            parents=((origin, tensor.requires_grad),),
            live=tensor.requires_grad,
            place=here(),
            module=self.module,
        )
        step.dtype, step.off = tensor.dtype, self.switches.off
        self._remember(tensor, step)
        self._name_custom(step, tensor)
        self._watch(step, tensor)
        return step

    def _revive(self, step: Step, tensor: Tensor) -> None:
        """Take note that what was made inside a custom function came out with a graph."""
        if step.within and not step.live and tensor.requires_grad:
            step.live = True
            self._name_custom(step, tensor)
            self._watch(step, tensor)

    def _name_custom(self, step: Step, tensor: Tensor) -> None:
        if isinstance(tensor.grad_fn, BackwardCFunction):
            step.custom = tensor.grad_fn.name()

    def _watch(self, step: Step, tensor: Tensor) -> None:
        """Note the gradient that comes back to a step."""
        if tensor.grad_fn is None:
            return
        number = tensor.output_nr

        def note(_: Any, grads: tuple[Tensor | None, ...]) -> None:
            grad = grads[number] if number < len(grads) else None
            if grad is not None and grad.numel():
                step.gradient = grad.detach().abs().amax()

        tensor.grad_fn.register_hook(note)

    def made_at(self, value: Any) -> tuple[Place | None, bool]:
        """Return where a single number without a weight's part was made, and if from tensors."""
        _, place, from_tensors = self._made.get(id(value), (None, None, False))
        return place, from_tensors

    # -- bookkeeping ---------------------------------------------------------------------------

    def _add(self, **fields: Any) -> Step:
        step = Step(index=len(self.steps), **fields)
        self.steps.append(step)
        return step

    def _remember(self, tensor: Tensor, step: Step) -> None:
        # tensors are kept alive while the pass lasts, so neither id nor memory changes hands
        self._known[id(tensor)] = (tensor, step)
        if storage := _storage(tensor):
            self._by_storage.setdefault(storage, step)

    def _is(self, tensor: Tensor, step: Step) -> bool:
        return self.weights[step.name] is tensor

    def _is_within(self) -> bool:
        """Return whether a custom function's forward runs, whose outputs get their graph later."""
        if self.switches.off or torch.is_inference_mode_enabled():
            return False
        return self.switches.in_checkpoint or not torch.is_grad_enabled()

    @property
    def module(self) -> str:
        """Name of the module that is running; empty outside of all."""
        return self._running[-1] if self._running else ""

    def enter_module(self, module: nn.Module, *_: Any) -> None:
        """Take note that a module begins."""
        name = self.module_names.get(id(module), type(module).__name__)
        self._running.append(name)
        self.ran.add(name)

    def leave_module(self, *_: Any) -> None:
        """Take note that a module ends."""
        if self._running:
            self._running.pop()


def _items(value: Any) -> Iterator[Any]:
    """Yield the tensors, arrays and numbers in nested arguments."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _items(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _items(item)
    elif isinstance(value, Tensor | TracedArray | float | int):
        yield value


def _written(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the tensor that a call has overwritten."""
    target = kwargs.get("out")
    if target is None and is_in_place(name):
        target = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
    if target is None and kwargs.get("inplace") is True and args:
        target = args[0]
    return target if isinstance(target, Tensor) else None


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dtype.is_floating_point and value.numel() > 0 and not bool(value.any())
    return isinstance(value, float | int) and not isinstance(value, bool) and value == 0


def _storage(tensor: Tensor) -> int:
    """Return where a tensor's memory begins; 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse and meta tensors
        return 0


def _application() -> Place | None:
    """Return the statement that applied the custom function that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _APPLY:
            return statement(frame)
        frame = frame.f_back
    return here()


_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]
