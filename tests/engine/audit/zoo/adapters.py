"""peft's ways to leave an adapter without effect."""

import tempfile
from functools import partial

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from tests.engine.audit.zoo.carriers import Net, inputs, note, plain, truth
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor, nn
from torch.optim import AdamW

LORA = {"first": r"first\..*lora_", "last": r"last\..*lora_"}


def adapted(*targets: str) -> PeftModel:
    """Return a net with fresh LoRA on its layers: the second halves are zero."""
    config = LoraConfig(r=2, lora_alpha=4, target_modules=list(targets or LORA))
    return get_peft_model(Net(), config)


def fresh() -> Case:
    return lora_case(adapted())


def lora_case(model: PeftModel) -> Case:
    case = plain(model)
    return Case(model, case.loss_fn, groups=LORA)


def disabled_in_the_loss() -> Case:
    model, x, y = adapted(), inputs(), truth()

    def loss() -> Tensor:
        with model.disable_adapter():  # maybe
            return F.mse_loss(model(x), y)

    return Case(model, loss, groups=LORA)


def disabled_for_a_reference() -> Case:
    """As preference learning asks the base for its opinion."""
    model, x, y = adapted(), inputs(), truth()

    def loss() -> Tensor:
        with torch.no_grad(), model.disable_adapter():
            reference = model(x)
        return F.mse_loss(model(x), y + 0.1 * reference)

    return Case(model, loss, groups=LORA)


def disabled_before() -> Case:
    model = adapted()
    model.base_model.disable_adapter_layers()
    for name, param in model.named_parameters():
        param.requires_grad_("lora_" in name)
    return lora_case(model)


def disabled_and_enabled() -> Case:
    model = adapted()
    model.base_model.disable_adapter_layers()
    model.base_model.enable_adapter_layers()
    return lora_case(model)


def merged() -> Case:
    model = adapted()
    model.merge_adapter()
    return lora_case(model)


def merged_and_unmerged() -> Case:
    model = adapted()
    model.merge_adapter()
    model.unmerge_adapter()
    return lora_case(model)


def one_target_unknown() -> Case:
    model = adapted("first", "last", "q_proj")
    return lora_case(model)


def target_by_pattern() -> Case:
    model = get_peft_model(Net(), LoraConfig(r=2, target_modules=r"(first|last)"))
    return lora_case(model)


def target_all_linears() -> Case:
    model = get_peft_model(Net(), LoraConfig(r=2, target_modules="all-linear"))
    return lora_case(model)


class Crowned(nn.Module):
    """A body with an adapter and a head of its own."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(15)
        self.body = body
        self.head = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def disabled_beside_a_head(enabled: bool) -> Case:
    """The head learns, so the loss has a graph; the adapters do not."""
    body = adapted()
    if not enabled:
        body.base_model.disable_adapter_layers()
        for name, param in body.named_parameters():
            param.requires_grad_("lora_" in name)
    model = Crowned(body)
    return Case(model, plain(model).loss_fn, groups={"lora": "lora_", "head": "head"})


def disabled_and_frozen() -> Case:
    """peft freezes the adapters it switches off."""
    body = adapted()
    body.base_model.disable_adapter_layers()
    return plain(Crowned(body))


def loaded(is_trainable: bool) -> Case:
    folder = tempfile.mkdtemp()
    adapted().save_pretrained(folder)
    body = PeftModel.from_pretrained(Net(), folder, is_trainable=is_trainable)
    return plain(Crowned(body))


def made_after_the_optimizer() -> Case:
    base = Net()
    optimizer = AdamW(base.parameters(), lr=1e-3)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["first", "last"]))
    case = plain(model)
    return Case(model, case.loss_fn, optimizer, LORA)


def made_before_the_optimizer() -> Case:
    model = adapted()
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return Case(model, plain(model).loss_fn, optimizer, LORA)


def second_adapter() -> Case:
    """Two adapters, the second is trained; peft freezes the first when it leaves it."""
    model = adapted()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["first", "last"]))
    model.set_adapter("second")
    note(model.active_adapter)
    return lora_case(model)


ALL = ("first", "last")
ADAPTERS = [
    Fault(
        "adapter disabled in the loss",
        "adapter_disabled",
        disabled_in_the_loss,
        disabled_in_the_loss,
        ALL,
        twins=(disabled_for_a_reference,),
    ),
    Fault(
        "adapter disabled before",
        "adapter_disabled",
        disabled_before,
        dead=ALL,
        twins=(disabled_and_enabled,),
    ),
    Fault(
        "adapter disabled beside a head that learns",
        "adapter_disabled",
        partial(disabled_beside_a_head, False),
        dead=("lora",),
        twins=(partial(disabled_beside_a_head, True),),
    ),
    Fault(
        "adapter disabled and frozen by peft",
        "adapter_disabled",
        disabled_and_frozen,
        also=("frozen",),
    ),
    Fault(
        "adapter merged",
        "adapter_merged",
        merged,
        dead=ALL,
        twins=(merged_and_unmerged,),
    ),
    Fault(
        "one target matches nothing",
        "no_target",
        one_target_unknown,
        twins=(target_by_pattern, target_all_linears, fresh),
    ),
    Fault(
        "adapter loaded frozen",
        "frozen",
        partial(loaded, False),
        twins=(partial(loaded, True), second_adapter),
    ),
    Fault(
        "adapter made after the optimizer",
        "not_in_optimizer",
        made_after_the_optimizer,
        outside=ALL,
        places=(Place("replaced_parameter"), Place("not_in_optimizer")),
        also=("frozen",),
        twins=(made_before_the_optimizer,),
    ),
]
