"""Kinds of official checkpoints beyond the references: their names, shapes and sums."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.model.official import exporting, parity
from tests.model.official.exporting import LANGUAGE, SAM2, internvl_config
from torch import Tensor
from torch.nn import functional as F

from vasculora.model.official.config import OfficialConfig, read_layout
from vasculora.model.official.names import origins
from vasculora.model.sa2va import Sa2VA
from vasculora.model.weights.files import find_weights
from vasculora.model.weights.placing import place

VIT_300M = {"qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 30}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 30}
INTERNLM2 = {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "vocab_size": 30}
KINDS = {
    "qwen2": internvl_config(QWEN2, VIT_300M),
    "qwen3": internvl_config(QWEN3 | {"head_dim": 16}, VIT_300M),
    "internlm2": internvl_config(INTERNLM2 | {"bias": False}, VIT_300M),
    "internlm2_with_bias": internvl_config(INTERNLM2, VIT_300M),
    "26b": internvl_config(INTERNLM2 | {"bias": False}, {}),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    exporting.write_config(tmp_path, KINDS[request.param])
    return tmp_path


def load(folder, *, sam2=None, dtype=torch.float32):
    """Return a folder's model as `Sa2VA.from_pretrained` loads it, but without its tokenizer."""
    from accelerate import init_empty_weights

    from vasculora.model.base import official_settings

    layout = read_layout(folder, OfficialConfig.model_validate({"sam2": sam2 or SAM2}))
    with init_empty_weights():
        model = Sa2VA(**official_settings(layout, seg_id=5, image_id=4))
    found = find_weights(folder)
    place(
        model,
        found,
        origins(model.state_dict(), found, layout),
        dtype=dtype,
        device=torch.device("cpu"),
    )
    return model


def test_what_is_written_under_official_names_comes_back(kind):
    model = exporting.build(kind)
    exporting.write_weights(kind, exporting.official_state(model, kind))
    again, state = load(kind), model.state_dict()
    assert again.state_dict().keys() == state.keys()
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert not any(value.is_meta for value in [*again.parameters(), *again.buffers()])


def test_buffers_that_are_not_stored_are_those_of_a_built_model(kind):
    model = exporting.build(kind)
    exporting.write_weights(kind, exporting.official_state(model, kind))
    built = dict(model.named_buffers())
    for name, value in load(kind, dtype=torch.bfloat16).named_buffers():
        if name not in model.state_dict():
            assert torch.equal(value, built[name]), name


def test_the_6b_encoder_has_its_own_parts(tmp_path):
    exporting.write_config(tmp_path, KINDS["26b"])
    state = exporting.official_state(exporting.build(tmp_path), tmp_path)
    layer = {
        n.split("layers.0.")[1] for n in state if n.startswith("vision_model.encoder.layers.0.")
    }
    assert {"attn.q_norm.weight", "attn.k_norm.weight", "norm1.weight"} <= layer
    assert not {"attn.qkv.bias", "norm1.bias", "norm2.bias"} & layer
    assert state["vision_model.encoder.layers.0.attn.q_norm.weight"].shape == (32,)


# InternViT, written out from its description with the official names


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight


def encode(state: dict[str, Tensor], pixels: Tensor, *, heads: int, patch: int) -> Tensor:
    """Return the last block's output, class token first."""

    def get(name):
        return state.get(f"vision_model.{name}")

    def norm(x, name):
        if get(f"{name}.bias") is None:
            return rms(x, get(f"{name}.weight"))
        return F.layer_norm(x, x.shape[-1:], get(f"{name}.weight"), get(f"{name}.bias"), 1e-6)

    def linear(x, name):
        return F.linear(x, get(f"{name}.weight"), get(f"{name}.bias"))

    e = "embeddings"
    patches = F.conv2d(
        pixels, get(f"{e}.patch_embedding.weight"), get(f"{e}.patch_embedding.bias"), stride=patch
    )
    x = patches.flatten(2).transpose(1, 2)
    x = torch.cat([get(f"{e}.class_embedding").expand(len(x), -1, -1), x], dim=1)
    table = get(f"{e}.position_embedding")
    side = round((table.shape[1] - 1) ** 0.5)
    grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, patches.shape[2:], mode="bicubic", align_corners=False)
    x = x + torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    layer = 0
    while get(f"{(at := f'encoder.layers.{layer}')}.ls1") is not None:
        qkv = F.linear(
            norm(x, f"{at}.norm1"), get(f"{at}.attn.qkv.weight"), get(f"{at}.attn.qkv.bias")
        )
        q, k, v = qkv.chunk(3, dim=-1)
        if get(f"{at}.attn.q_norm.weight") is not None:  # over the full width, before the heads
            q, k = rms(q, get(f"{at}.attn.q_norm.weight")), rms(k, get(f"{at}.attn.k_norm.weight"))
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{at}.attn.proj") * get(f"{at}.ls1")
        hidden = F.linear(
            norm(x, f"{at}.norm2"), get(f"{at}.mlp.fc1.weight"), get(f"{at}.mlp.fc1.bias")
        )
        hidden = F.linear(F.gelu(hidden), get(f"{at}.mlp.fc2.weight"), get(f"{at}.mlp.fc2.bias"))
        x = x + hidden * get(f"{at}.ls2")
        layer += 1
    return x


@pytest.mark.parametrize("side", [56, 28])
@pytest.mark.parametrize("name", ["qwen2", "26b"])
def test_the_encoder_computes_what_its_description_says(tmp_path, name, side):
    """With a table of positions as large as the tile, and with a smaller one that is stretched."""
    config = KINDS[name]
    vision = config["vision_config"] | {"image_size": side}
    exporting.write_config(tmp_path, config | {"vision_config": vision})
    model = exporting.build(tmp_path)
    state = exporting.official_state(model, tmp_path)
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = model.mllm.model.vision_tower(pixels).last_hidden_state
        torch.testing.assert_close(
            ours, encode(state, pixels, heads=4, patch=14), atol=1e-5, rtol=1e-5
        )


def test_the_description_is_the_official_encoder(shared_dir):
    golden = parity.Golden(shared_dir, "internvl_qwen2")
    state = load_file(golden.checkpoint / "model.safetensors")
    found = encode(state, golden.tensors["image/pixel_values"], heads=4, patch=14)
    assert parity.apart(found, golden.tensors["image/vit_last_hidden_state"]) < 1e-4


def test_grouped_heads_are_cut_as_the_description_says(tmp_path):
    """By hand: two key heads of width 1, three queries each."""
    config = internvl_config(
        INTERNLM2 | {"hidden_size": 6, "num_attention_heads": 6, "bias": False}, VIT_300M
    )
    exporting.write_config(tmp_path, config)
    layout = read_layout(tmp_path, OfficialConfig.model_validate({"sam2": SAM2}))
    wqkv = torch.arange(10.0)[:, None].expand(10, 6)  # q0 q1 q2 k0 v0, then q3 q4 q5 k1 v1
    at = "mllm.model.language_model.layers.0.self_attn"
    names = [f"{at}.{part}_proj.weight" for part in "qkv"]
    cut = {n: o.take([wqkv])[:, 0].tolist() for n, o in origins(names, (), layout).items()}
    assert list(cut.values()) == [[0, 1, 2, 5, 6, 7], [3, 8], [4, 9]]


def test_other_exports_of_the_same_weights_are_read(shared_dir, tmp_path):
    """`gamma` for SAM 2's layer scale, and a Qwen's blocks as transformers named them before."""
    golden = parity.Golden(shared_dir, "qwen2_5_vl")
    folder = shutil.copytree(golden.checkpoint, tmp_path / "old")
    (folder / "model.safetensors").chmod(0o644)
    state = load_file(folder / "model.safetensors")
    older = {
        name.replace(".g_weight", ".gamma")
        .replace("model.model.visual.", "model.visual.")
        .replace("model.model.language_model.", "model.model."): value
        for name, value in state.items()
    }
    assert sum(name.endswith(".gamma") for name in older) == 2
    (folder / "model.safetensors").unlink()
    exporting.write_weights(folder, older)
    again = Sa2VA.from_pretrained(folder, **golden.loading).state_dict()
    for name, value in golden.open().state_dict().items():
        assert torch.equal(value, again[name]), name


def test_defaults_of_the_official_classes_are_filled_in(tmp_path):
    """The 26B leaves out what equals its classes' defaults."""
    config = internvl_config(INTERNLM2, {})
    config["vision_config"] = {}
    config["llm_config"] = {"architectures": ["InternLM2ForCausalLM"]}
    del config["force_image_size"]
    config["force_image_size"] = 448
    exporting.write_config(tmp_path, config)
    layout = read_layout(tmp_path, OfficialConfig())
    vision, text = layout.mllm["vision_config"], layout.mllm["text_config"]
    assert (vision["hidden_size"], vision["num_hidden_layers"]) == (3200, 48)
    assert (vision["num_attention_heads"], vision["intermediate_size"]) == (25, 12800)
    assert (vision["use_qk_norm"], vision["attention_bias"]) == (True, False)
    assert vision["norm_type"] == "rms_norm"
    assert (text["hidden_size"], text["num_key_value_heads"]) == (4096, 32)
    assert (text["attention_bias"], text["rope_parameters"]["rope_theta"]) == (True, 10000.0)
    assert layout.processor.tile_tokens == 256


@pytest.mark.parametrize("theta", [{}, {"rope_theta": 1e6}])
@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, {"rope_type": "default"}),
        ({"type": "dynamic", "factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0}),
        ({"rope_type": "yarn", "factor": 4.0}, {"rope_type": "yarn", "factor": 4.0}),
    ],
)
def test_rotary_positions_are_read_as_they_were_written(tmp_path, theta, scaling, expected):
    config = internvl_config(QWEN2 | theta | {"rope_scaling": scaling}, VIT_300M)
    exporting.write_config(tmp_path, config)
    rope = read_layout(tmp_path, OfficialConfig()).mllm["text_config"]["rope_parameters"]
    assert rope == {"rope_theta": 1e6 if theta else 10000.0} | expected


def test_a_qwen3_vl_keeps_the_base_of_its_release(tmp_path):
    """transformers 5 has another default than 4.57, which the releases were written by."""
    config = {
        "model_type": "sa2va_chat",
        "text_config": LANGUAGE | {"model_type": "qwen3_vl_text", "vocab_size": 30},
        "vision_config": {"model_type": "qwen3_vl", "patch_size": 16},
    }
    exporting.write_config(tmp_path, config)
    layout = read_layout(tmp_path, OfficialConfig())
    assert layout.mllm["text_config"]["rope_parameters"]["rope_theta"] == 5e6
    assert layout.family == "qwen3_vl"
    assert layout.processor.patches.patch_size == 16


def test_templates_keep_their_names(tmp_path):
    config = internvl_config(QWEN2, VIT_300M)
    for given, known in {"phi3-chat": "phi3_chat", "internlm2_chat": "internlm2_chat"}.items():
        exporting.write_config(tmp_path, config | {"template": given})
        assert read_layout(tmp_path, OfficialConfig()).template == known
    exporting.write_config(tmp_path, config | {"template": "gemma"})
    with pytest.raises(ValueError, match=r"config.json: .*unknown template 'gemma'. Known: qwen"):
        read_layout(tmp_path, OfficialConfig())
