import pytest
import torch
from peft import LoraConfig
from peft.tuners import lora
from tests.conftest import draw
from torch import nn

from vasculora.model import folding
from vasculora.model.folding import FoldedConv2d, FoldedLinear, folded_weight
from vasculora.model.lora import LoraSettings, attach

LINEAR = (lambda: nn.Linear(12, 20), lora.Linear, FoldedLinear, (3, 50, 12))
POINT = (lambda: nn.Conv2d(12, 20, 1), lora.Conv2d, FoldedConv2d, (2, 12, 9, 9))
WIDER = (lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1), lora.Conv2d, FoldedConv2d, (2, 6, 9, 9))
KINDS = pytest.mark.parametrize("kind", [LINEAR, POINT, WIDER], ids=["linear", "1x1", "3x3"])


def layer_of(kind, base, *, rank=4, dropout=0.0, **settings):
    torch.manual_seed(1)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, **settings)
    layer = kind(base, "default", config=config, r=rank, lora_alpha=2 * rank)
    nn.init.normal_(layer.lora_B["default"].weight)
    base.requires_grad_(False)
    return layer


def way_back(layer, x):
    x = x.clone().requires_grad_()
    output = layer(x)
    torch.manual_seed(2)
    output.backward(torch.randn_like(output))
    return output.detach(), x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)


@KINDS
def test_folded_is_what_peft_computes_forth_and_back(kind):
    build, plain, folded, shape = kind
    base, x = build(), torch.randn(shape)
    one, other = (way_back(layer_of(kind, base), x) for kind in (plain, folded))
    assert len(one) == 4
    for expected, found in zip(one, other, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-5)


@KINDS
def test_folded_is_what_the_merged_layer_computes_bit_for_bit(kind):
    build, _, folded, shape = kind
    layer, x = layer_of(folded, build()), torch.randn(shape)
    assert folded_weight(layer, x) is not None
    before = layer(x)
    layer.merge()
    assert torch.equal(layer(x), before)


def test_wide_layers_are_left_to_peft():
    x = torch.randn(2, 64)
    at_the_bar = layer_of(FoldedLinear, nn.Linear(64, 64), rank=4)  # 4096 = 8 x (256 + 256)
    assert folded_weight(at_the_bar, x) is not None
    assert folded_weight(layer_of(FoldedLinear, nn.Linear(64, 64), rank=3), x) is None


def test_dropout_dora_and_coarser_numbers_are_left_to_peft():
    x = torch.randn(2, 12)
    plain = layer_of(FoldedLinear, nn.Linear(12, 20))
    assert folded_weight(plain, x) is not None
    assert folded_weight(layer_of(FoldedLinear, nn.Linear(12, 20), dropout=0.1), x) is None
    assert folded_weight(layer_of(FoldedLinear, nn.Linear(12, 20), use_dora=True), x) is None
    assert folded_weight(layer_of(FoldedLinear, nn.Linear(12, 20).bfloat16()), x) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert folded_weight(plain, x) is None


def test_an_adapter_that_is_off_is_not_folded_in():
    x = torch.randn(2, 12)
    layer = layer_of(FoldedLinear, nn.Linear(12, 20))
    layer.enable_adapters(False)
    assert torch.equal(layer(x), layer.base_layer(x))


def test_attach_folds_the_narrow_layers(opened, monkeypatch):
    batch = opened.processor.batch([draw("xray", 0)])
    settings = LoraSettings(trainable=("grounding_lora",), grounding_rank=4, dropout=0.0)
    model = attach(opened.model, settings)
    kinds = {type(module) for module in model.modules() if hasattr(module, "lora_A")}
    assert kinds == {FoldedLinear, FoldedConv2d}
    with torch.no_grad():
        for name, param in model.named_parameters():
            if "lora_B" in name:
                param.normal_(std=0.05)
        folded = model.eval()(batch).mask_logits
        monkeypatch.setattr(folding, "BREAK_EVEN", 0.0)
        torch.testing.assert_close(folded, model(batch).mask_logits, atol=1e-4, rtol=1e-4)
        assert not torch.equal(folded, model(batch).mask_logits)
