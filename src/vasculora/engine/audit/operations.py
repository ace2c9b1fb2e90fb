"""What torch's calls do to a gradient: the closed tables that the trace and the diagnosis read."""

import re
from collections.abc import Mapping
from typing import Any

_COMPARING = """
    gt ge lt le eq ne greater greater_equal less less_equal not_equal isclose heaviside logical_and
    logical_or logical_xor logical_not
"""
_INDEXING = """
    argmax argmin argsort max min sort topk kthvalue median nanmedian mode msort searchsorted
    bucketize nonzero multinomial
"""
_COPYING = "tensor as_tensor new new_tensor asarray scalar_tensor full full_like __deepcopy__"
_ROUNDING = "round floor ceil trunc fix floor_divide"
_FLAT = """
    sigmoid tanh relu relu6 hardtanh hardsigmoid hardswish clamp clip clamp_min clamp_max softmax
    log_softmax gelu silu elu selu celu leaky_relu softplus logsigmoid threshold erf expit nll_loss
    cross_entropy binary_cross_entropy binary_cross_entropy_with_logits hinge_embedding_loss
    margin_ranking_loss multi_margin_loss scaled_dot_product_attention softmin softsign tanhshrink
    hardshrink softshrink rrelu prelu mish glu layer_norm group_norm instance_norm batch_norm
    rms_norm normalize std var
"""
_TAKING = """
    where masked_fill masked_select index_select gather take getitem select slice narrow
    masked_scatter index_put index_fill embedding scatter maximum minimum take_along_dim
"""
_DROPPING = "dropout dropout1d dropout2d dropout3d alpha_dropout zero fill"
_MULTIPLYING = """
    mul multiply matmul mm bmm mv dot inner outer einsum linear bilinear addmm baddbmm addcmul div
    divide true_divide conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d lerp
    pow vdot kron multi_dot tensordot
"""
_WEIGHTED = "cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits"
_JOINING = "stack cat concat concatenate hstack vstack dstack pad setitem index_put block_diag"
_SHAPED = """
    new new_zeros new_ones new_empty new_full new_tensor zeros_like ones_like empty_like full_like
    rand_like randn_like randint_like
"""
_MATCHING = "type_as to view_as reshape_as expand_as"
_READING = "item tolist numpy __array__ __float__ __int__ __index__ __bool__"

LEAVING: Mapping[str, str] = {
    **dict.fromkeys(("detach", "detach_", "alias"), "detach"),
    **dict.fromkeys(("data", "data="), "data"),
    **dict.fromkeys(("item", "__float__", "__int__", "__index__", "__complex__"), "item"),
    **dict.fromkeys(("numpy", "__array__"), "numpy"),
    **dict.fromkeys(_COPYING.split(), "copy"),
    **dict.fromkeys(_COMPARING.split(), "threshold"),
    **dict.fromkeys(_INDEXING.split(), "argmax"),
    "tolist": "tolist",
    "__bool__": "threshold",
    "leaf": "detached_leaf",
}
"""Calls whose result has no graph, and the kind of cut they are."""

FLATTENING: Mapping[str, str] = {
    **dict.fromkeys(("sign", "sgn"), "sign"),
    "bernoulli": "threshold",
    **dict.fromkeys(_ROUNDING.split(), "round"),
    **dict.fromkeys(_FLAT.split(), "saturation"),
    **dict.fromkeys(_TAKING.split(), "branch_not_taken"),
    **dict.fromkeys(_DROPPING.split(), "zero_weight"),
}
"""Calls with a graph whose slope can be zero throughout, and the kind of cut that is."""

MULTIPLYING = frozenset(_MULTIPLYING.split())
"""Calls in which one argument scales the gradient of another."""

WEIGHTED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_WEIGHTED.split(), ("weight", "pos_weight")),
    **dict.fromkeys(("add", "sub"), ("alpha",)),
}
"""Calls in which only certain keyword arguments do."""

JOINING = frozenset(_JOINING.split())
"""Calls that hand each part of their gradient to another argument."""

SHAPED = frozenset(_SHAPED.split())
"""Calls that take only shape, device and number format from their first argument."""

MATCHING = frozenset(_MATCHING.split())
"""Calls that take only that from their second one."""

SHRINKING = frozenset(["exp", "exp2", "pow", "square"])
"""Calls whose result can be too small for its number format."""

READING = frozenset(_READING.split())
"""Calls whose result is no tensor."""

NUMBERS = frozenset(["item", "tolist", "numpy", "__array__", "__float__"])
"""Those of them from which a loss can be computed."""

_SIDED = re.compile(r"^__[ri]?(add|sub|mul|truediv|floordiv|mod|matmul|pow|and|or|xor)__$")
_SHORT = {"truediv": "div", "floordiv": "floor_divide"}


def name_of(func: Any) -> str:
    """Return a call's plain name; of a property, the property's, with `=` where it is set."""
    name = str(getattr(func, "__name__", ""))
    if name in ("__get__", "__set__"):
        owner = str(getattr(getattr(func, "__self__", None), "__name__", ""))
        return owner if name == "__get__" else f"{owner}="
    return name


def stem(name: str) -> str:
    """Return the name without what says on which side or in which place: `__rmul__` is `mul`."""
    if name in LEAVING:
        return name
    if sided := _SIDED.match(name):
        return _SHORT.get(sided[1], sided[1])
    return name.strip("_")


def is_in_place(name: str) -> bool:
    """Return whether a call overwrites its first argument."""
    if name in ("__setitem__", "data="):
        return True
    if name.startswith("__"):
        return name.startswith("__i") and _SIDED.match(name) is not None
    return name.endswith("_") and name not in ("requires_grad_", "retain_grad_", "share_memory_")
