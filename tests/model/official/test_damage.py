"""Official folders that are damaged, of another model, or ask for what is never done.

Each must be refused with one message that names the file, says what is wrong and what to do.
"""

import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.model.official import exporting
from tests.model.official.exporting import SAM2, internvl_config
from tests.model.official.parity import FOLDERS, Golden

from vasculora.model.base import read_base
from vasculora.model.official.config import official_config
from vasculora.model.sa2va import Sa2VA

VIT = {"qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 330}
CONFIG = internvl_config(QWEN2, VIT)
WEIGHTS = "model.safetensors"
QUERY = "language_model.model.layers.0.self_attn.q_proj.weight"
CODE = "raise SystemExit('the folder ran its code')"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint without a fault: an InternVL with Qwen2, its weights in one file."""
    folder = tmp_path_factory.mktemp("whole")
    exporting.write_config(folder, CONFIG)
    exporting.write_tokenizer(folder)
    model = exporting.build(folder)
    exporting.write_weights(folder, exporting.official_state(model, folder))
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "damaged")


@pytest.fixture
def golden(shared_dir, tmp_path):
    """Give a checkpoint of the references that may be damaged, and how it is loaded."""

    def make(name):
        reference = Golden(shared_dir, name)
        path = tmp_path / name
        path.mkdir()
        for file in reference.checkpoint.iterdir():
            if file.name == WEIGHTS:
                (path / WEIGHTS).symlink_to(file)
            else:
                shutil.copyfile(file, path / file.name)
        return path, reference.loading

    return make


def refused(folder, *, sam2=SAM2, **loading):
    """Return the one message with which a folder is refused."""
    with pytest.raises((ValueError, OSError)) as caught:
        Sa2VA.from_pretrained(folder, **({"sam2": sam2} | loading))
    message = str(caught.value)
    assert type(caught.value) in (ValueError, FileNotFoundError, PermissionError)
    assert message.count("\n") <= 5
    assert "validation error" not in message
    return message


def change(folder, key, value, *, name="config.json"):
    """Set one setting of a JSON file; `...` takes it away."""
    tree = json.loads((folder / name).read_text())
    *path, last = key.split(".")
    inner = tree
    for part in path:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    (folder / name).write_text(json.dumps(tree))


def rewrite(folder, update):
    """Change the tensors of the weight file."""
    state = load_file(folder / WEIGHTS)
    update(state)
    (folder / WEIGHTS).unlink()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)


def test_the_whole_folder_loads(whole):
    model = Sa2VA.from_pretrained(whole, sam2=SAM2)
    assert model.processor.seg_id == model.seg_token_id
    assert not any(value.is_meta for value in model.state_dict().values())


# config.json


BAD_SETTINGS = [
    ("llm_config.hidden_size", "32", "expected a valid integer, got '32'"),
    ("llm_config.hidden_size", 10**12, "expected less than or equal to 131072, got 1000000000000"),
    ("llm_config.hidden_size", True, "expected a valid integer, got True"),
    ("llm_config.intermediate_size", -1, "expected greater than or equal to 1, got -1"),
    ("llm_config.vocab_size", 0, "expected greater than or equal to 1, got 0"),
    ("llm_config.vocab_size", 10**12, "expected less than or equal to 16777216, got 10"),
    ("llm_config.num_hidden_layers", 10**9, "expected less than or equal to 1024"),
    ("llm_config.num_hidden_layers", 2.5, "expected a valid integer, got 2.5"),
    ("llm_config.num_attention_heads", 6, "num_attention_heads: 6 does not divide hidden_size, 32"),
    ("llm_config.num_key_value_heads", 3, "num_key_value_heads: 3 does not divide 4, the number"),
    ("llm_config.rms_norm_eps", 0, "expected greater than 0, got 0"),
    ("llm_config.hidden_act", "sliu", "unknown activation 'sliu'"),
    ("llm_config.layer_types", ["full_attention"], "layer_types: 1 for 2 layers"),
    ("llm_config.rope_scaling", {"type": "magic"}, "expected 'default', 'mrope', 'linear'"),
    ("llm_config.rope_theta", float("nan"), "llm_config.rope_theta: expected "),
    ("llm_config", [], "llm_config: expected a section of settings, got []"),
    ("llm_config", ..., "expected llm_config (InternVL) or text_config (Qwen-VL), found neither"),
    (
        "llm_config",
        {"architectures": ["Phi3ForCausalLM"]},
        "its language model is 'Phi3ForCausalLM'. Known",
    ),
    ("llm_config", {"model_type": "gemma2"}, "its language model is 'gemma2'. Known: Qwen2ForCau"),
    ("llm_config.architectures", 3, "llm_config.architectures: expected a valid list, got 3"),
    ("vision_config", 3, "vision_config: expected a section of settings, got 3"),
    ("vision_config.num_attention_heads", 5, "5 does not divide hidden_size, 32"),
    ("vision_config.patch_size", 0, "expected greater than or equal to 1, got 0"),
    ("vision_config.image_size", 10**12, "expected less than or equal to 8192"),
    ("vision_config.norm_type", "batch_norm", "expected 'layer_norm' or 'rms_norm', got 'batch"),
    ("vision_config.qkv_bias", "yes", "expected a valid boolean, got 'yes'"),
    ("downsample_ratio", 0.3, "cannot be joined by downsample_ratio 0.3"),
    ("downsample_ratio", "half", "expected a valid number, got 'half'"),
    ("force_image_size", 10, "0 patches a side (force_image_size 10, patch_size 14)"),
    ("select_layer", 7, "select_layer: 7 of 2 layers"),
    ("ps_version", "v1", "ps_version 'v1' is not supported, only 'v2'"),
    ("ps_version", ..., "ps_version 'v1' is not supported, only 'v2'"),
    ("template", "llama3_chat", "unknown template 'llama3_chat'. Known: qwen_chat, internlm2"),
    ("model_type", "llava", "expected model_type 'sa2va_chat'"),
]


@pytest.mark.parametrize(("key", "value", "said"), BAD_SETTINGS)
def test_a_setting_that_cannot_be_is_named(folder, key, value, said):
    change(folder, key, value)
    message = refused(folder)
    assert message.startswith(f"{folder}/config.json: ")
    assert said in message
    assert message.endswith(("again.", "checkpoint.", "vicuna.", "ForConditionalGeneration."))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(CONFIG)[:300], "not valid JSON at line 1, column"),
        ("", "not valid JSON at line 1, column 1"),
        ("[]", "expected model_type 'sa2va_chat'"),
        ("[" * 100_000, "no JSON that can be read: maximum recursion depth"),
        ('{"model_type": ' + "1" * 5000 + "}", "no JSON that can be read: Exceeds the limit"),
        (json.dumps(CONFIG)[:300].encode("utf-16"), "not valid JSON at line 1"),
    ],
)
def test_a_config_that_is_no_json_is_told(folder, content, said):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "config.json").write_bytes(data)
    message = refused(folder)
    assert message.startswith(f"{folder}/config.json: {said}")


def test_a_folder_without_a_config_is_told(folder):
    (folder / "config.json").unlink()
    assert "expected a base model (with config.json) or a run folder" in refused(folder)


@pytest.mark.parametrize("asks", [True, False])
def test_another_model_is_told_and_its_code_is_not_run(folder, asks):
    change(folder, "model_type", "gemma")
    if not asks:
        change(folder, "auto_map", ...)
    (folder / "modeling_sa2va_chat.py").write_text(CODE)
    message = refused(folder)
    assert "expected model_type 'sa2va_chat' (an official Sa2VA)" in message
    assert "got 'gemma'" in message
    assert ("It asks for remote code (auto_map), which vasculora never runs" in message) == asks


def test_the_code_of_a_whole_folder_is_not_run(folder):
    (folder / "modeling_sa2va_chat.py").write_text(CODE)
    (folder / "configuration_sa2va_chat.py").write_text(CODE)
    Sa2VA.from_pretrained(folder, sam2=SAM2)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("llm_config.hidden_size", ..., r"of another shape: .*330x32 for mllm.lm_head.weight 330x"),
        ("llm_config.vocab_size", 331, r"2 of another shape: .*lm_head.weight 330x32 for .* 331x"),
        ("llm_config.num_hidden_layers", 3, r"12 missing: language_model.model.layers.2\."),
        ("vision_config.qk_normalization", True, r"4 missing: .*attn.k_norm.weight"),
    ],
)
def test_a_setting_that_contradicts_the_weights_is_told(folder, key, value, said):
    change(folder, key, value)
    message = refused(folder)
    assert message.startswith(f"{folder}: the weights do not fit config.json.")
    assert re.search(said, message), message
    assert message.endswith("Copy config.json and the weights again from one place.")


def test_what_no_check_foresaw_names_the_config(folder):
    change(folder, "llm_config.hidden_act", None)
    message = refused(folder)
    assert message.startswith(f"{folder}/config.json: no model can be built from it (")
    assert "hidden_act" in message
    assert message.endswith("Copy the file again.")


KINDS_SETTINGS = [
    ("internvl_internlm2", "llm_config.bias", "no", "bias: expected a valid boolean, got 'no'"),
    ("internvl_internlm2", "llm_config.num_key_value_heads", 3, "3 does not divide 4"),
    ("qwen2_5_vl", "text_config", 3, "text_config: expected a section of settings, got 3"),
    ("qwen2_5_vl", "vision_config", ..., "vision_config: is missing"),
    ("qwen2_5_vl", "text_config.model_type", "qwen2", "is the language model of an InternVL"),
    ("qwen2_5_vl", "text_config.rope_scaling.mrope_section", [2, 3, 4], "does not add up to half"),
    ("qwen2_5_vl", "text_config.rope_scaling", ..., "mrope_section: [16, 24, 24] does not add up"),
    ("qwen2_5_vl", "text_config.rope_scaling.mrope_section", 8, "expected a valid list, got 8"),
    ("qwen2_5_vl", "vision_config.fullatt_block_indexes", [9], "names layer 9 of 2"),
    ("qwen2_5_vl", "vision_config.window_size", 20, "window_size 20 is less than a token, 28 pix"),
    ("qwen3_vl", "vision_config.deepstack_visual_indexes", [0, 3], "names layer 3 of 3"),
    ("qwen3_vl", "vision_config.num_heads", 5, "num_heads x 4: 20 does not divide hidden_size, 64"),
    ("qwen3_vl", "vision_config.in_channels", 10**12, "in_channels: expected 3, got 10"),
    ("qwen3_vl", "template", "gpt", "unknown template 'gpt'"),
]


@pytest.mark.parametrize(("name", "key", "value", "said"), KINDS_SETTINGS)
def test_a_setting_of_any_kind_is_named(golden, name, key, value, said):
    folder, loading = golden(name)
    change(folder, key, value)
    message = refused(folder, **loading)
    assert message.startswith(f"{folder}/config.json: ")
    assert said in message


@pytest.mark.parametrize(
    ("name", "other", "said"),
    [
        ("internvl_qwen2", "internvl_internlm2", "missing: language_model.model.layers.0.attentio"),
        ("qwen2_5_vl", "internvl_qwen2", "missing: language_model.lm_head.weight"),
        ("qwen3_vl", "qwen2_5_vl", "unexpected: model.model.language_model.layers.0.self_attn.k_n"),
    ],
)
def test_the_config_and_tokenizer_of_another_kind_are_told(golden, name, other, said):
    folder, _ = golden(name)
    config, others = golden(other)
    (config / WEIGHTS).unlink()
    (config / WEIGHTS).symlink_to((folder / WEIGHTS).resolve())
    message = refused(config, **others)
    assert "the weights do not fit config.json." in message.splitlines()[0]
    assert said in message


# The tokenizer


@pytest.mark.parametrize("kept", [0, 2000])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_cut_short_is_told(folder, file, kept):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: min(kept, len(content) - 4)])
    message = refused(folder)
    assert str(folder) in message
    assert file in message
    assert message.endswith(("Copy it again.", "Copy it again from where it came from."))


def test_a_missing_tokenizer_is_told(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    message = refused(folder)
    assert message.startswith(f"{folder}: no tokenizer. Expected tokenizer.json")
    assert message.endswith("Copy the published files.")


def test_a_tokenizer_that_needs_code_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    asks = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(asks))
    (folder / "own.py").write_text(CODE)
    message = refused(folder)
    assert "names the class 'OwnTokenizer' and asks for code of the folder (auto_map)" in message
    assert "vasculora never runs code from a checkpoint" in message


def test_a_pointer_in_place_of_a_tokenizer_is_told(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 11424000\n"
    (folder / "tokenizer.json").write_text(pointer)
    message = refused(folder)
    assert f"{folder}/tokenizer.json: is a Git LFS pointer" in message
    assert "git lfs pull" in message


@pytest.mark.parametrize("token", ["[SEG]", "<IMG_CONTEXT>"])
def test_a_tokenizer_without_a_token_in_use_is_told(folder, token):
    for file in folder.glob("tokenizer*"):
        file.write_text(file.read_text().replace(token, "[OTHER]"))
    message = refused(folder)
    assert message.startswith(f"{folder}: the tokenizer does not know {token}.")


def test_a_tokenizer_with_more_tokens_than_the_model_is_told(folder):
    change(folder, "llm_config.vocab_size", 6)
    message = refused(folder)
    assert message.startswith(f"{folder}: its tokenizer gives [SEG], image and end the ids ")
    assert "but config.json states 6 tokens" in message


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "expected the chat template that a Qwen-VL is asked with, in chat_template.jinja"),
        ("{% for m in", "the chat template cannot be used (TemplateSyntaxError: "),
        ("{{ raise_exception('no') }}", "the chat template cannot be used (TemplateError: no)"),
        ("{{ messages[0].a.b }}", "the chat template cannot be used (UndefinedError: "),
        ("{{ ''.__class__.mro() }}", "the chat template cannot be used (SecurityError: "),
        (
            "[INST] {{ messages[0].role }}",
            "the chat template renders a question as '[INST] user', exp",
        ),
        (b"\xff\xfe\x80", "expected a tokenizer in chat_template.jinja, but it cannot be read"),
    ],
)
def test_a_qwens_template_that_cannot_be_its_own_is_told(golden, template, said):
    folder, loading = golden("qwen2_5_vl")
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        data = template if isinstance(template, bytes) else template.encode()
        (folder / "chat_template.jinja").write_bytes(data)
    message = refused(folder, **loading)
    assert message.startswith(f"{folder}: {said}")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (None, '{"image_mean": [0.5', "not valid JSON at line 1, column"),
        (None, "[3]", "expected a section of settings, got [3]"),
        ("image_mean", [0.5, 0.5], "image_mean: List should have at least 3 items"),
        ("image_mean", "grey", "image_mean: expected a valid list, got 'grey'"),
        ("image_std", [0.5, 0, 0.5], "image_std.1: expected greater than 0, got 0"),
    ],
)
def test_a_damaged_image_processor_is_told(golden, key, value, said):
    folder, loading = golden("qwen3_vl")
    path = folder / "preprocessor_config.json"
    if key is None:
        path.write_text(value)
    else:
        change(folder, key, value, name=path.name)
    assert refused(folder, **loading).startswith(f"{path}: {said}")


# The weights


def _cut_row(state):
    state[QUERY] = state[QUERY][:-1]


def _halve(state):
    state["language_model.model.layers.0.self_attn.k_proj.weight"] = torch.tensor(1.0)


TENSORS = {
    "a row short": (_cut_row, f"1 of another shape: {QUERY} 31x32 for mllm.model"),
    "a number": (_halve, "1 of another shape: language_model.model.layers.0.self_attn.k_proj.wei"),
    "whole numbers": (lambda s: s.update({QUERY: s[QUERY].int()}), f"{QUERY} (torch.int32)"),
    "one too many": (lambda s: s.update(lora_A=torch.zeros(3)), "1 unexpected: lora_A"),
    "one too few": (lambda s: s.pop(QUERY), f"1 missing: {QUERY}"),
    "not a number": (lambda s: s[QUERY][2, 3:4].fill_(torch.nan), f"tensor {QUERY!r} holds nan"),
    "a high bit": (lambda s: s[QUERY].view(torch.int32)[2, 3:4].bitwise_xor_(1 << 30), "holds "),
}


@pytest.mark.parametrize("what", TENSORS)
def test_a_tensor_that_does_not_belong_is_named(folder, what):
    update, said = TENSORS[what]
    rewrite(folder, update)
    message = refused(folder)
    assert message.startswith(str(folder))
    assert said in message
    assert "again" in message


def test_a_weight_file_cut_short_is_told(folder):
    os.truncate(folder / WEIGHTS, 100_000)
    assert refused(folder).startswith(f"{folder}/{WEIGHTS}: is damaged or cut off (")


@pytest.fixture
def sharded(folder):
    (folder / WEIGHTS).unlink()
    exporting.write_shards(folder, exporting.describe(folder), max_bytes=10**6)
    return folder


def test_shards_load_and_a_missing_one_is_named(sharded):
    Sa2VA.from_pretrained(sharded, sam2=SAM2)
    shards = sorted(sharded.glob("*.safetensors"))
    shards[1].unlink()
    message = refused(sharded)
    assert f"1 of {len(shards)} weight files that model.safetensors.index.json names" in message
    assert shards[1].name in message


def test_a_shard_cut_short_is_named(sharded):
    shard = sorted(sharded.glob("*.safetensors"))[-1]
    os.truncate(shard, shard.stat().st_size - 1)
    assert refused(sharded).startswith(f"{shard}: is damaged or cut off (")


def pickle(folder, *, name="pytorch_model.bin", wrap=dict):
    """Write the weights as PyTorch does, in place of safetensors."""
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(wrap(state), folder / name)  # noqa: TID251 - what is tested is that it can be read


def same_from_pytorch(folder, loading):
    expected = Sa2VA.from_pretrained(folder, **loading).state_dict()
    pickle(folder)
    again = Sa2VA.from_pretrained(folder, **loading).state_dict()
    return all(torch.equal(value, again[key]) for key, value in expected.items())


def test_a_file_of_pytorch_gives_the_same_model(folder):
    assert same_from_pytorch(folder, {"sam2": SAM2})


def test_a_file_of_pytorch_with_grouped_heads_gives_the_same_model(golden):
    assert same_from_pytorch(*golden("internvl_internlm2"))


@pytest.mark.parametrize(
    ("name", "wrap", "said"),
    [
        ("pytorch_model.bin", lambda s: {"state_dict": s, "at": Path("a")}, "holds Python objects"),
        ("pytorch_model.bin", lambda s: {"state_dict": s}, "holds more than tensors by name"),
        ("model.pth", lambda s: s, "holds 'model.pth', but none of the files that are read"),
    ],
)
def test_pickles_that_are_not_read_are_told(folder, name, wrap, said):
    pickle(folder, name=name, wrap=wrap)
    message = refused(folder)
    assert message.startswith(str(folder))
    assert said in message
    assert "safetensors" in message


# What the caller gives


@pytest.mark.parametrize("name", ["internvl_internlm2", "qwen3_vl"])
def test_sam2_of_another_size_says_how_to_give_it(golden, name):
    folder, loading = golden(name)
    message = refused(folder, **loading | {"sam2": None})
    assert "538 missing: grounding_encoder.sam2_model." in message
    assert "Only SAM 2 differs: config.json does not hold its sizes" in message
    assert "as sam2 in Python, as official.sam2 in the --config file" in message


@pytest.mark.parametrize(
    ("sam2", "said"),
    [
        ({"hidden": "wide"}, "sam2.hidden: expected a valid integer"),
        ({"hidden": 10**12}, "sam2.hidden: expected less than or equal to 8192, got 1000000000000"),
        ({"width": 3}, "sam2.width: there is no such setting."),
        ({"heads": 3}, "sam2: heads: 3 does not divide embed_dim, 8"),
        ({"channels": (64, 32, 16, 9)}, "sam2: channels: expected (64, 32, 16, 8), which embed"),
        ({"glob": (5,)}, "sam2: glob names block 5 of 5"),
        ({"stages": (1, 0, 2, 1)}, "sam2.stages.1: expected greater than or equal to 1, got 0"),
        ({"hidden": 128}, "Only SAM 2 differs"),
    ],
)
def test_sizes_of_sam2_that_cannot_be_are_named(whole, sam2, said):
    assert said in refused(whole, sam2=SAM2 | sam2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_pixels": 50_000, "max_pixels": 40_000}, "min_pixels is 50000 and max_pixels 40000"),
        ({"min_pixels": 10**9}, "min_pixels is 1000000000 and max_pixels 47040"),
        ({"max_pixels": 0}, "max_pixels: expected greater than or equal to 1, got 0"),
    ],
)
def test_areas_that_cannot_be_are_told(golden, given, said):
    folder, loading = golden("qwen2_5_vl")
    assert said in refused(folder, **loading | given)


def test_areas_are_refused_for_tiles(whole):
    assert "min_pixels is for Qwen models" in refused(whole, min_pixels=4000)


@pytest.mark.parametrize("given", [{"sam2": SAM2}, {"sam2": None, "min_pixels": 5}])
def test_a_base_of_ours_holds_its_own(given):
    message = refused("nano", **given)
    assert "nano: sam2, min_pixels and max_pixels are for official checkpoints" in message
    assert message.endswith("Leave them out.")


# Any damage


def damaged(content, rng):
    """Return a file's content cut somewhere, or with a bit flipped."""
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    flipped = bytearray(content)
    flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def told(load):
    """Return whether damage was told; an error that is none of the user's ends the test."""
    try:
        load()
    except (ValueError, OSError) as error:
        if type(error) in (ValueError, FileNotFoundError, OSError):
            return "validation error" not in str(error) or pytest.fail(str(error))
        raise
    return False


def test_any_damage_of_a_folder_is_told_or_harmless(sharded):
    rng, count, num_told = random.Random(5), {"config.json": 25}, 0
    count["model.safetensors.index.json"] = 10
    for name, times in count.items():
        content = (sharded / name).read_bytes()
        for _ in range(times):
            (sharded / name).write_bytes(damaged(content, rng))
            num_told += told(lambda: Sa2VA.from_pretrained(sharded, sam2=SAM2))
        (sharded / name).write_bytes(content)
    assert num_told > 20


def test_any_flip_in_a_header_is_told_or_harmless(folder):
    rng, num_told, path = random.Random(6), 0, folder / WEIGHTS
    size = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for step in range(20):
        place = step if step < 8 else rng.randrange(8, size)  # the length itself comes first
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))
        num_told += told(lambda: Sa2VA.from_pretrained(folder, sam2=SAM2))
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([byte]))
    assert num_told > 15
    Sa2VA.from_pretrained(folder, sam2=SAM2)


@pytest.mark.parametrize("name", FOLDERS)
def test_any_damage_of_settings_and_words_is_told_or_harmless(golden, name):
    folder, loading = golden(name)
    rng, num_told = random.Random(7), 0
    official = official_config(**{"min_pixels": None, "max_pixels": None} | loading)
    for path in sorted(folder.iterdir()):
        content = b"" if path.name == WEIGHTS else path.read_bytes()
        for _ in range(12 if content else 0):
            path.write_bytes(damaged(content, rng))
            num_told += told(lambda: read_base(folder, official))
        if content:
            path.write_bytes(content)
    assert num_told > 25
