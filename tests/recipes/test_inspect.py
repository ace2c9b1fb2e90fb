"""What a folder is told to be: the real 8B without its weights, official kinds, our own, runs."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.model.official import exporting
from tests.model.official.parity import FOLDERS, Golden
from tests.model.official.real import TOTALS, read_keymap, write_real

from vasculora.model.anatomy import BLOCKS, block_of, build_empty
from vasculora.model.base import read_plan
from vasculora.model.groups import count_groups
from vasculora.model.lora import LoraSettings, attach, save_adapter
from vasculora.model.memory import write_memory
from vasculora.model.official.config import OfficialConfig
from vasculora.model.pretrained import open_model
from vasculora.model.sa2va import Sa2VA
from vasculora.recipes.config import finetune_settings, preset_names
from vasculora.recipes.inspect import InspectConfig, inspect
from vasculora.recipes.inspection import show

pytestmark = pytest.mark.slow

LEARNS = ("mllm_lora", "projector", "grounding_lora")


def look(folder, **official):
    return inspect(InspectConfig(model=str(folder), official=official))


def preset(found, name):
    return next(preset for preset in found.presets if preset.name == name)


def block(found, name):
    return next(block for block in found.blocks if block.name == name)


# The real 8B, without its weights.


@pytest.fixture(scope="module")
def keymap(shared_dir):
    return read_keymap(shared_dir)


@pytest.fixture(scope="module")
def real(keymap, tmp_path_factory):
    return write_real(tmp_path_factory.mktemp("real") / "8b", keymap, shards=True)


@pytest.fixture(scope="module")
def found(real):
    return look(real)


def test_the_real_8b_is_counted_by_block(found):
    assert found.num_parameters == TOTALS["total_parameters"] == 8_182_606_130
    assert sum(block.parameters for block in found.blocks) == found.num_parameters
    assert [block.name for block in found.blocks] == list(BLOCKS)
    # 28 layers: q, k, v with bias, o, three of 18944, two norms; the embedding, the last norm
    d, kv, ff = 3584, 512, 18944
    layer = d * d + d + 2 * (d * kv + kv) + d * d + 3 * d * ff + 2 * d
    assert block(found, "language_model").parameters == 28 * layer + 151679 * d + d
    assert block(found, "text_head").parameters == 151679 * d
    assert block(found, "projector").parameters == d * d + d + d * 256 + 256
    assert block(found, "connector").parameters == 2 * 4096 + (4096 * d + d) + (d * d + d)


def test_the_real_8b_is_described(found):
    assert (found.kind, found.family, found.language_model) == (
        "official",
        "internvl",
        "Qwen2ForCausalLM",
    )
    assert [(p.name, p.layers, p.width, p.heads) for p in found.parts] == [
        ("vision_tower", (24,), (1024,), (16,)),
        ("language_model", (28,), (3584,), (28,)),
        ("sam2_image_encoder", (2, 6, 36, 4), (144, 288, 576, 1152), (2, 4, 8, 16)),
        ("sam2_memory", (4,), (256,), (1,)),
    ]
    assert found.parts[1].key_value_heads == 4
    inputs = found.inputs
    assert (inputs.vocabulary, inputs.tile_size, inputs.tile_tokens) == (151679, 448, 256)
    assert (inputs.sam_size, inputs.patch_size) == (1024, None)
    assert (found.words.template, found.words.system) == ("qwen_chat", "")


def test_the_real_8b_is_measured_by_its_headers(found):
    files = found.files
    assert (files.num_files, files.num_tensors) == (7, 1589)
    assert files.num_bytes == TOTALS["total_size"]
    assert files.num_bytes == sum(block.num_bytes for block in found.blocks)
    assert block(found, "vision_tower").dtypes == ("bfloat16",)
    assert block(found, "vision_tower").num_bytes == 2 * block(found, "vision_tower").parameters
    assert {b.dtypes for b in found.blocks if b.name != "vision_tower"} == {("float32",)}
    assert found.words.tokens == ()
    assert len(found.warnings) == 1
    assert "no tokenizer" in found.warnings[0]


def test_the_presets_of_the_real_8b(found):
    seed = preset(found, "seed")
    assert (seed.num_attached, seed.num_trainable) == (41_623_552, 40_935_424)
    assert seed.attached == {
        "mllm_lora": 40_370_176,
        "mask_decoder_lora": 565_248,
        "memory_lora": 688_128,
    }
    assert seed.trainable["memory_lora"] == 0
    assert [p.name for p in found.presets] == list(preset_names())
    assert preset_names() == ("grounding_lora", "light", "official", "seed")
    assert preset(found, "official").attached["seg_token"] == 2 * 3584
    assert preset(found, "official").attached["connector"] == block(found, "connector").parameters
    assert preset(found, "light").attached["projector"] == block(found, "projector").parameters
    assert all(p.left_out == () for p in found.presets)


@pytest.mark.usefixtures("found")
def test_all_names_of_the_real_8b_have_the_place_they_should(real, keymap):
    plan = read_plan(real, OfficialConfig())
    model = build_empty(plan.settings)
    goes_to, takes = {}, {}
    for ours, origin in plan.origins(model.state_dict(), keymap).items():
        for name in origin.names:
            goes_to.setdefault(name, set()).add(ours)
        takes[ours] = origin
    assert goes_to == {name: {_ours(to) for to in row["to"]} for name, row in keymap.items()}
    for name, row in keymap.items():
        for ours in goes_to[name]:
            _check_take(takes[ours], name, row["op"], ours)


def _ours(place):
    room, _, name = place.rpartition(":")
    if not room:
        return name.replace("text_hidden_fcs", "seg_projector")
    return {"internvl": "mllm.", "sam2": "grounding."}[room] + name


def _check_take(origin, name, op, ours):
    """See that a weight is taken out of its tensors as the key map says."""
    rows = torch.arange(6.0)[:, None]
    if op.startswith("chunk"):
        part = "qkv".index(ours.rpartition("_proj")[0][-1])
        assert origin.take([rows]).tolist() == rows[2 * part : 2 * part + 2].tolist()
    elif op.startswith("row"):
        number = int(op.split()[1])
        assert origin.names[number] == name
        pieces = [rows[i : i + 1] for i in range(4)]
        assert origin.take(pieces)[number].tolist() == [number]
    else:
        assert op in ("copy", "copy to both")
        assert origin.take([rows]) is rows


# Folders that are not whole, and files that do not fit.

QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 330}
VISION = {"qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tiny official checkpoint in shards, with a tokenizer."""
    folder = tmp_path_factory.mktemp("official")
    exporting.write_config(folder, exporting.internvl_config(QWEN2, VISION))
    exporting.write_tokenizer(folder)
    exporting.write_shards(folder, exporting.describe(folder), max_bytes=4 * 400_000)
    return folder


@pytest.fixture
def official(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "official")


def look_at(folder):
    return look(folder, sam2=exporting.SAM2)


def edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def drop_shards(folder):
    shards = list(folder.glob("*.safetensors"))
    for path in shards:
        path.unlink()
    return len(shards)


def test_a_whole_folder_has_nothing_missing(whole):
    found = look_at(whole)
    assert found.warnings == ()
    tokens = {token.name: (token.text, token.id) for token in found.words.tokens}
    model = Sa2VA.from_pretrained(whole, sam2=exporting.SAM2)
    assert tokens["seg"] == ("[SEG]", model.seg_token_id)
    assert tokens["image"] == ("<IMG_CONTEXT>", model.mllm.config.image_token_id)
    assert tokens["end"][0] == "<|im_end|>"
    assert tokens["pad"][0] == "<|endoftext|>"
    assert found.num_parameters == sum(p.numel() for p in model.parameters())
    assert found.files.num_bytes == 4 * (found.num_parameters + 2 * 32)  # SAM 2's position matrix


def test_sizes_and_counts_need_no_weight_file_and_no_tokenizer(whole, official):
    before = look_at(whole)
    count = drop_shards(official)
    for path in official.glob("tokenizer*"):
        path.unlink()
    found = look_at(official)
    assert (found.blocks[0].parameters, found.parts, found.presets) == (
        before.blocks[0].parameters,
        before.parts,
        before.presets,
    )
    assert found.files.num_files == before.files.num_files == count > 1
    assert found.files.num_tensors == before.files.num_tensors
    assert found.files.num_bytes == before.files.num_bytes  # the index says so
    assert {(b.dtypes, b.num_bytes) for b in found.blocks} == {((), None)}
    no_tokenizer, no_shards = found.warnings
    assert "no tokenizer" in no_tokenizer
    assert f"{count} of {count} weight files" in no_shards


def test_a_folder_with_settings_alone_is_counted_too(official, whole):
    drop_shards(official)
    (official / "model.safetensors.index.json").unlink()
    found = look_at(official)
    assert found.num_parameters == look_at(whole).num_parameters
    assert (found.files.num_files, found.files.num_bytes) == (None, None)
    assert "holds no weights" in found.warnings[0]


def test_an_index_of_other_names_is_refused(official):
    drop_shards(official)
    edit_index(official, lambda index: index["weight_map"].pop("text_hidden_fcs.0.bias"))
    with pytest.raises(ValueError, match=r"1 missing: text_hidden_fcs\.0\.bias") as refusal:
        look_at(official)
    assert "Copy config.json and the weights again" in str(refusal.value)


def test_another_total_in_the_index_is_told(official):
    drop_shards(official)
    edit_index(official, lambda index: index["metadata"].update(total_parameters=12345))
    _, told = look_at(official).warnings
    assert "counts 12,345 parameters" in told
    edit_index(
        official,
        lambda index: index["metadata"].update(total_parameters=look_at(official).num_parameters),
    )
    assert len(look_at(official).warnings) == 1


def test_a_header_of_another_shape_is_refused(official):
    path = sorted(official.glob("*.safetensors"))[0]
    state = load_file(path)
    name = next(name for name, value in state.items() if value.dim() == 2)
    state[name] = state[name].T[:, :1].contiguous()
    save_file(state, path)
    with pytest.raises(ValueError, match=r"1 of another shape"):
        look_at(official)


def test_a_token_beyond_the_vocabulary_is_told(official):
    config = json.loads((official / "config.json").read_text())
    config["llm_config"]["vocab_size"] = 6
    drop_shards(official)
    (official / "config.json").write_text(json.dumps(config))
    told = look_at(official).warnings[-1]
    assert "[SEG] has the id 6, but config.json a vocabulary of 6" in told


def test_a_damaged_file_is_an_error(official):
    (official / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="tokenizer"):
        look_at(official)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_golden_kind_is_counted_as_it_is_loaded(shared_dir, name):
    golden = Golden(shared_dir, name)
    found = look(golden.checkpoint, **golden.loading)
    model = golden.open()
    assert found.num_parameters == sum(param.numel() for param in model.parameters())
    own = dict.fromkeys(BLOCKS, 0)
    for key, param in model.named_parameters():
        own[block_of(key)] += param.numel()
    assert {b.name: b.parameters for b in found.blocks} == own
    assert found.warnings == ()
    assert found.words.system == model.processor.prompt.system
    assert {token.name: token.id for token in found.words.tokens}["seg"] == model.seg_token_id
    with safe_open(golden.checkpoint / "model.safetensors", framework="pt") as file:
        assert found.files.num_tensors == len(file.keys())
    qwen = name.startswith("qwen")
    assert preset(found, "official").left_out == (("connector",) if qwen else ())


def test_a_small_sam2_without_its_sizes_is_refused_with_the_cure(shared_dir):
    with pytest.raises(ValueError, match=r"Only SAM 2 differs(.|\n)*official\.sam2"):
        look(Golden(shared_dir, "internvl_qwen2").checkpoint)


# Bases of ours, and runs.


def test_our_own_base_is_described(tiny_base):
    found = look(tiny_base)
    opened = open_model(tiny_base)
    assert (found.kind, found.language_model, found.warnings) == ("vasculora", "Qwen2Model", ())
    assert found.num_parameters == sum(param.numel() for param in opened.model.parameters())
    assert found.words.tokens[0].id == opened.model.seg_token_id
    assert preset(found, "seed").left_out == ("memory_lora",)
    assert preset(found, "seed").num_attached == preset(found, "seed").num_trainable


def test_a_preset_is_counted_as_finetune_would_attach_it(tiny_base):
    found = look(tiny_base)
    for name in preset_names():
        values = {"model": str(tiny_base), "data.path": "."}
        settings = finetune_settings(config_path=None, preset=name, overrides=(), values=values)
        counts = count_groups(attach(open_model(tiny_base).model, settings.lora))
        assert preset(found, name).attached == counts.attached
        assert preset(found, name).trainable == counts.trainable


@pytest.fixture
def run(tiny_base, tmp_path):
    return make_run(tiny_base, tmp_path / "run")


def make_run(base, folder):
    opened = open_model(base)
    settings = LoraSettings(trainable=LEARNS, rank=3, alpha=6, grounding_rank=2)
    save_adapter(attach(opened.model, settings), folder / "adapter")
    learnt = {"base": opened.name, "fingerprint": opened.fingerprint, "trainable": LEARNS}
    write_memory(folder / "adapter", opened.memory.model_copy(update=learnt))
    return folder


def test_a_run_is_its_base_and_its_adapter(run, tiny_base):
    found, base = look(run), look(tiny_base)
    (adapter,) = found.adapters
    opened = open_model(tiny_base)
    settings = LoraSettings(trainable=LEARNS, rank=3, alpha=6, grounding_rank=2)
    assert adapter.groups == count_groups(attach(opened.model, settings)).attached
    assert adapter.ranks == {"mllm_lora": 3, "grounding_lora": 2}
    assert (adapter.trained, adapter.dtypes) == (LEARNS, ("float32",))
    assert adapter.base == found.folder == str(tiny_base)
    assert (found.blocks, found.presets) == (base.blocks, base.presets)


def test_a_run_on_a_run_names_both(run, tmp_path):
    make_run(run, tmp_path / "second")
    found = look(tmp_path / "second")
    assert [adapter.folder for adapter in found.adapters] == [str(run), str(tmp_path / "second")]


@pytest.mark.filterwarnings("error")
def test_an_adapter_of_another_shape_is_refused(run):
    path = run / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    name = next(name for name in state if "lora_A" in name)
    save_file(state | {name: state[name][:, :-1].contiguous()}, path)
    with pytest.raises(ValueError, match="does not fit its base") as refusal:
        look(run)
    assert name in str(refusal.value)


def test_an_unfinished_run_is_refused(run):
    (run / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no finished epoch"):
        look(run)


def test_a_run_remembers_how_its_base_is_read(run):
    with pytest.raises(ValueError, match="this run remembers how its base was read"):
        look(run, min_pixels=100)


# How it is shown.


def test_all_is_shown(run, recorder):
    show(look(run), recorder)
    titles = [title for title, _, _ in recorder.tables]
    assert titles == [
        "What its adapter holds, as float32",
        "Tokens",
        "Sizes",
        "Weights by block",
        "What each preset attaches and trains",
    ]
    assert any(note.startswith("Weights: ") and "1 file" in note for note in recorder.notes)
    assert any("seed goes without memory_lora: this SAM 2 has no" in n for n in recorder.notes)
    assert recorder.warnings == []


def test_what_is_missing_is_shown_as_a_warning(official, recorder):
    drop_shards(official)
    show(look_at(official), recorder)
    assert len(recorder.warnings) == 1
    rows = next(rows for title, _, rows in recorder.tables if title == "Weights by block")
    assert rows[0][2:] == ("-", "-")
