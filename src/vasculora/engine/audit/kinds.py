"""Every way the audit knows in which a gradient is lost: what it is, and what to do about it.

The list is closed: a cut carries one of these names, and a reader finds it here and in
docs/audit.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One way to lose a gradient.

    Attributes:
        what: What happens there, as a sentence.
        cure: What to do about it, as a sentence.
    """

    what: str
    cure: str


KINDS: Mapping[str, Kind] = {
    # the graph is not recorded
    "no_grad": Kind(
        "the graph is switched off here by torch.no_grad",
        "Call what is inside without it: the model's forward, not generate or predict.",
    ),
    "inference_mode": Kind(
        "the graph is switched off here by torch.inference_mode",
        "Call what is inside without it, or leave it to prediction.",
    ),
    "set_grad_enabled": Kind(
        "the graph is switched off here by torch.set_grad_enabled(False)",
        "Pass True while training, or use it as a context so that it ends.",
    ),
    # the value leaves the graph
    "detach": Kind("the value goes on without its graph (detach)", "Leave detach() out."),
    "data": Kind("the value goes on without its graph (.data)", "Use the tensor itself."),
    "item": Kind(
        "a Python number is made of it (item, float), which has no graph",
        "Compute with the tensor; make a number only to show it.",
    ),
    "numpy": Kind(
        "an array is made of it, which has no graph",
        "Do this computation with torch; make an array only to show it.",
    ),
    "tolist": Kind(
        "Python numbers are made of it (tolist), which have no graph",
        "Use torch.stack or torch.cat on the tensors themselves.",
    ),
    "copy": Kind(
        "a new tensor is made from the values alone, without their graph",
        "Use the tensor itself, or clone() it; torch.stack joins several.",
    ),
    "detached_leaf": Kind(
        "a value that has no graph is made to require a gradient: a fresh leaf, which only "
        "silences the error of backward()",
        "Take this line out and mend what had cut the graph before it.",
    ),
    # the value is not differentiable
    "argmax": Kind(
        "an index of the largest or smallest entry has no gradient",
        "Use the scores themselves, or softmax, while training.",
    ),
    "threshold": Kind(
        "a comparison gives true or false, which has no gradient",
        "Give the loss logits or probabilities; threshold in metrics only.",
    ),
    "cast": Kind(
        "integers and booleans carry no gradient", "Stay with floating-point numbers in the loss."
    ),
    "sign": Kind("the slope of sign is zero everywhere", "Use tanh, or the value itself."),
    "round": Kind(
        "the slope of rounding is zero everywhere",
        "Leave it out of training, or pass the gradient straight through.",
    ),
    "custom_function": Kind(
        "this custom autograd function returns no gradient for its input",
        "Return one from its backward, and mark no float output as non-differentiable.",
    ),
    "reentrant_checkpoint": Kind(
        "reentrant activation checkpointing was given inputs that need no gradient, so it records "
        "nothing",
        "Pass use_reentrant=False, or call model.enable_input_require_grads().",
    ),
    # the weights are not handed to learning
    "not_in_optimizer": Kind(
        "trainable weights were not handed to the optimizer",
        "Make the optimizer from every weight with requires_grad, after the model is complete.",
    ),
    "replaced_parameter": Kind(
        "the model's weights were replaced after the optimizer was made, which moves the old ones",
        "Make the optimizer after the last change to the model's modules, dtype or device.",
    ),
    "zero_lr": Kind(
        "the learning rate of these weights is zero", "Give them a learning rate above zero."
    ),
    "frozen": Kind(
        "weights that should learn are frozen (requires_grad is False)",
        "Freeze before the optimizer is made, and load adapters with is_trainable=True.",
    ),
    "frozen_moved": Kind(
        "a frozen weight is written to while the loss or the step runs",
        "Make it a buffer if it should move, or take this write out.",
    ),
    "adapter_disabled": Kind(
        "the adapter is switched off, so the base answers alone",
        "Enable it: model.enable_adapter_layers(), or leave the disable_adapter() block.",
    ),
    "adapter_merged": Kind(
        "the adapter is merged into the base, so its own matrices are not used",
        "Call model.unmerge_adapter() before training.",
    ),
    "no_target": Kind(
        "a pattern of adapter targets matches no module",
        "Name modules that model.named_modules() lists.",
    ),
    # the loss does not depend on the weights
    "branch_not_taken": Kind(
        "the part was not run, or nothing of its result was taken, on this batch",
        "Check the condition in front of it, or audit with a batch that takes it.",
    ),
    "zero_weight": Kind(
        "the value is multiplied by zero on its way to the loss",
        "Raise the weight of this loss term, or check the mask it is multiplied by.",
    ),
    "constant_loss": Kind(
        "the loss depends on no trainable weight",
        "Compute it from the model's output of this very batch.",
    ),
    "other_tensor": Kind(
        "a result is computed here that the loss is not made from",
        "Compute the loss from this result, or freeze what makes it.",
    ),
    # the gradient is lost in numbers
    "saturation": Kind(
        "the function is flat where its input lies, so the gradient is exactly zero",
        "Scale the input down, use a loss on logits, or lower the learning rate.",
    ),
    "underflow": Kind(
        "the gradient is smaller than its number format can hold and becomes zero",
        "Use float32 or bfloat16 here, or scale the loss (torch.amp.GradScaler).",
    ),
    "vanishing": Kind(
        "what is left of the gradient is rounding noise beside the rest of the model's",
        "These weights do not change the loss; freeze them, or rescale this part.",
    ),
    "in_place": Kind(
        "a tensor that the graph still needs is overwritten here",
        "Write to a copy: x = x.masked_fill(...), or x = x.clone() before x[...] = y.",
    ),
    "nonfinite": Kind(
        "infinity or not-a-number appears here first",
        "Look at this operation's input: a logarithm, division or root of zero, or an overflow.",
    ),
    # the sentence does not matter
    "ignored_prompt": Kind(
        "the mask does not change when the sentence does",
        "Choose a base that listens to its prompt, or let only parts behind the prompt learn.",
    ),
}
