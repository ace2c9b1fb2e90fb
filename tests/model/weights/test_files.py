import json
import os
import pickle
import random
import struct
import tempfile
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vasculora.model.weights.files import (
    MAX_VALUE,
    Stored,
    find_weights,
    read_index,
    read_weights,
    weight_files,
)

save = torch.save  # noqa: TID251 - files as PyTorch writes them are what is read here
INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4" * 64 + b"\nsize 12345\n"
TENSORS = {
    "b.weight": torch.arange(6.0).reshape(2, 3),
    "a.weight": torch.full((4,), 0.5, dtype=torch.bfloat16),
    "a.scale": torch.tensor(2.0, dtype=torch.float16),
    "step": torch.tensor([10**9], dtype=torch.int64),
    "none": torch.zeros(0, 3),
}
SHARDS = {FIRST: ("b.weight", "step"), SECOND: ("a.weight", "a.scale", "none")}


def write_index(folder, places, *, name=INDEX, **metadata):
    (folder / name).write_text(json.dumps({"metadata": metadata, "weight_map": places}))


@pytest.fixture
def single(tmp_path):
    """A folder whose weights are one file."""
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def sharded(tmp_path):
    """A folder of two shards and their index, which names the second one first."""
    for file, names in SHARDS.items():
        save_file({name: TENSORS[name] for name in names}, tmp_path / file)
    places = {name: file for file in (SECOND, FIRST) for name in SHARDS[file]}
    write_index(tmp_path, places, total_size=42, total_parameters=12)
    return tmp_path


@pytest.fixture
def legacy(tmp_path):
    """A folder of two shards as PyTorch writes them."""
    files = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    places = {}
    for file, names in zip(files, SHARDS.values(), strict=True):
        save({name: TENSORS[name] for name in names}, tmp_path / file)
        places |= dict.fromkeys(names, file)
    write_index(tmp_path, places, name="pytorch_model.bin.index.json")
    return tmp_path


def read_all(folder):
    return {name: tensor.clone() for name, tensor in read_weights(find_weights(folder))}


def put(folder, data, *, name="model.safetensors"):
    (folder / name).write_bytes(data)


def safetensors(header, data=b""):
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(words)) + words + data


def same(one, two):
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one
    )


# What is found and read.


@pytest.mark.parametrize("folder", ["single", "sharded", "legacy"])
def test_tensors_come_with_the_names_shapes_and_values_they_were_written_with(folder, request):
    folder = request.getfixturevalue(folder)
    found = find_weights(folder)
    assert found == {
        name: Stored(tuple(tensor.shape), tensor.dtype, found[name].file)
        for name, tensor in TENSORS.items()
    }
    assert same(read_all(folder), TENSORS)


def test_files_come_in_the_order_of_the_index_and_a_file_at_a_time(sharded):
    assert weight_files(sharded) == (sharded / SECOND, sharded / FIRST)
    found = find_weights(sharded)
    shuffled = {name: found[name] for name in ("a.weight", "b.weight", "none", "step")}
    files = [found[name].file.name for name, _ in read_weights(shuffled)]
    assert files == [SECOND, SECOND, FIRST, FIRST]


def test_a_part_can_be_read_without_the_files_of_the_rest(sharded):
    found = find_weights(sharded)
    (sharded / FIRST).unlink()
    [(name, tensor)] = read_weights({"a.scale": found["a.scale"]})
    assert (name, tensor.item()) == ("a.scale", 2.0)


def test_shapes_are_found_without_reading_weights(tmp_path):
    # The weights of this file are a hole of 8 GB: to read them takes seconds.
    header = {
        f"w{i}": {
            "dtype": "BF16",
            "shape": [2**20, 2],
            "data_offsets": [i * 2**22, (i + 1) * 2**22],
        }
        for i in range(2000)
    }
    words = safetensors(header)
    put(tmp_path, words)
    os.truncate(tmp_path / "model.safetensors", len(words) + 2000 * 2**22)
    before = _resident()
    found = find_weights(tmp_path)
    assert len(found) == 2000
    assert found["w7"].shape == (2**20, 2)
    [(_, tensor)] = read_weights({"w7": found["w7"]})
    assert tensor.abs().max() == 0
    assert _resident() - before < 64 * 2**20


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("write", "name"), [(save_file, "model.safetensors"), (save, "pytorch_model.bin")]
)
def test_a_view_takes_no_memory_of_its_own(tmp_path, write, name):
    write({"w": torch.zeros(2**26, dtype=torch.int8)}, tmp_path / name)
    before = _anonymous()
    kept = dict(read_weights(find_weights(tmp_path)))
    assert kept["w"].max() == 0  # a sum would be taken of a copy in 64 bits
    assert _anonymous() - before < 2**24


def _anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def test_writing_to_a_view_does_not_change_the_file(single):
    before = (single / "model.safetensors").read_bytes()
    for _, tensor in read_weights(find_weights(single)):
        tensor.zero_()
    assert (single / "model.safetensors").read_bytes() == before


def test_safetensors_are_read_where_both_kinds_are_there(single):
    save({"other": torch.ones(1)}, single / "pytorch_model.bin")
    assert same(read_all(single), TENSORS)


def test_links_to_elsewhere_are_followed_as_in_a_hubs_cache(sharded, tmp_path_factory):
    blobs = tmp_path_factory.mktemp("blobs")
    for file in SHARDS:
        (sharded / file).rename(blobs / file)
        (sharded / file).symlink_to(blobs / file)
    assert same(read_all(sharded), TENSORS)


# The index.


def test_an_index_is_read_without_its_shards(sharded):
    for file in SHARDS:
        (sharded / file).unlink()
    index = read_index(sharded)
    assert (index.total_size, index.total_parameters) == (42, 12)
    assert index.file_of == {
        name: sharded / file for file, names in SHARDS.items() for name in names
    }
    assert index.files == (sharded / SECOND, sharded / FIRST)


@pytest.mark.parametrize(
    ("said", "understood"), [(1.6e10, 16_000_000_000), ("many", None), (None, None), (0.5, None)]
)
def test_totals_of_an_index_are_whole_numbers_or_none(tmp_path, said, understood):
    write_index(tmp_path, {"a": "x.safetensors"}, total_size=said)
    assert read_index(tmp_path).total_size == understood


def test_a_folder_without_an_index_has_none(single):
    assert read_index(single) is None
    assert weight_files(single) == (single / "model.safetensors",)


@pytest.mark.parametrize(
    "place",
    ["../x.safetensors", "/etc/passwd", "a/../../x", "..", "..\\x", "C:x", "\\\\host\\x", "", "."],
)
def test_an_index_that_points_outside_its_folder_is_refused(sharded, place):
    write_index(sharded, {"a": place})
    with pytest.raises(ValueError, match="names a weight file outside its folder"):
        read_index(sharded)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe\xfd",
        b"[]",
        b"{}",
        b'{"weight_map": {}}',
        b'{"weight_map": []}',
        b'{"weight_map": {"a": 3}}',
        b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
        b'{"a":' * 100_000,
    ],
)
def test_a_damaged_index_is_told(sharded, content):
    put(sharded, content, name=INDEX)
    with pytest.raises(ValueError, match=rf"{INDEX}: is damaged or cut off .* Copy it again"):
        find_weights(sharded)


def test_missing_shards_are_named_and_counted(sharded):
    (sharded / SECOND).unlink()
    message = f"1 of 2 weight files that {INDEX} names are missing: '{SECOND}'. Copy them"
    with pytest.raises(FileNotFoundError, match=message):
        find_weights(sharded)
    with pytest.raises(FileNotFoundError, match=message):
        weight_files(sharded)


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("c.weight", FIRST, "1 tensors are in no weight file: 'c.weight'"),
        ("a.scale", FIRST, "1 tensors are in another weight file than it says: 'a.scale'"),
        ("a.scale", None, "1 tensors are in a weight file only: 'a.scale'"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_told(sharded, name, place, message):
    places = {key: file for file, names in SHARDS.items() for key in names} | {name: place}
    write_index(sharded, {key: file for key, file in places.items() if file is not None})
    with pytest.raises(ValueError, match=f"does not fit the weight files beside it: {message}"):
        find_weights(sharded)


def test_a_tensor_that_is_there_twice_is_told(sharded):
    save_file(TENSORS, sharded / SECOND)
    message = f"tensor 'b.weight' is twice there, in {SECOND} and in {FIRST}"
    with pytest.raises(ValueError, match=message):
        find_weights(sharded)


def test_two_sets_of_weights_are_not_chosen_between(sharded):
    save_file(TENSORS, sharded / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds both model.safetensors and .* Remove the one"):
        find_weights(sharded)


def test_an_index_may_name_a_single_file(single):
    write_index(single, dict.fromkeys(TENSORS, "model.safetensors"))
    assert same(read_all(single), TENSORS)


# Files that are none.


def test_no_folder_and_no_weights_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_weights(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"holds no weights. Expected model.safetensors"):
        find_weights(tmp_path)


@pytest.mark.parametrize(
    "name", ["iter_500.pth", "model.pt", "last.ckpt", "w.PKL", "weights.bin", FIRST]
)
def test_weights_of_other_programs_are_listed_with_the_cure(tmp_path, name):
    put(tmp_path, b"x", name=name)
    with pytest.raises(ValueError, match=f"holds '{name}', but none .* export the model as safet"):
        find_weights(tmp_path)


def test_a_long_list_is_cut(tmp_path):
    for i in range(8):
        put(tmp_path, b"x", name=f"{i}.pt")
    with pytest.raises(ValueError, match=r"'0.pt', '1.pt', '2.pt', '3.pt', '4.pt' and 3 more, but"):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", INDEX])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty. Copy it again"),
        (LFS, f"is a Git LFS pointer, {len(LFS)} bytes, not the file itself. Run `git lfs pull`"),
        (b"<!DOCTYPE html><html>Not found</html>", "is damaged or cut off"),
    ],
)
def test_what_is_no_weight_file_is_told(tmp_path, name, data, message):
    put(tmp_path, data, name=name)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", INDEX])
def test_a_folder_in_place_of_a_file_is_told(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"{name}: is a folder where a file was expected"):
        find_weights(tmp_path)


def test_a_link_to_nothing_is_told(tmp_path):
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"model.safetensors: cannot be read: No such file"):
        find_weights(tmp_path)


@contextmanager
def without_rights():
    """Give up root's right to read everything, for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["model.safetensors", INDEX])
def test_a_file_that_may_not_be_read_is_told(name):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own belongs to one user alone
        Path(folder).chmod(0o755)
        put(Path(folder), b"secret", name=name)
        (Path(folder) / name).chmod(0)
        with without_rights(), pytest.raises(PermissionError, match=r"read: Permission denied. Ma"):
            find_weights(Path(folder))


# Damage.


def test_number_formats_that_are_not_read_are_told(tmp_path):
    save_file({"a": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"number format F8_E4M3. Known: BF16, F16"):
        find_weights(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        struct.pack("<Q", 2**60) + b"{}",
        safetensors(b'{"a":'),
        safetensors(b'{"a":' * 1000),
        safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 7),
        safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 9),
        safetensors({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors({"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_told(tmp_path, data):
    put(tmp_path, data)
    with pytest.raises(ValueError, match=r"model.safetensors: is damaged or cut off .* Copy it"):
        find_weights(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_values_that_are_no_numbers_are_refused_by_name(tmp_path, dtype, value):
    tensor = torch.zeros(2, 5, dtype=dtype)
    tensor[1, 3] = float(value)
    save_file({"fine": torch.ones(2), "spoilt": tensor}, tmp_path / "model.safetensors")
    reader = read_weights(find_weights(tmp_path))
    assert next(reader)[0] == "fine"
    with pytest.raises(ValueError, match=f"model.safetensors: tensor 'spoilt' holds {value}, whi"):
        next(reader)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_values_no_trained_weight_has_are_refused(tmp_path, sign, kind):
    def write(value):
        tensors = {"w": torch.tensor([0.1, sign * value, -0.1])}
        if kind == "bin":
            save(tensors, tmp_path / "pytorch_model.bin")
        else:
            save_file(tensors, tmp_path / "model.safetensors")

    write(MAX_VALUE)
    assert read_all(tmp_path)["w"][1] == sign * MAX_VALUE
    write(1.001 * MAX_VALUE)
    with pytest.raises(ValueError, match=r"tensor 'w' holds -?1.001e\+06, which no trained weight"):
        read_all(tmp_path)


def test_a_file_that_is_cut_off_after_it_was_found_is_told(single):
    found = find_weights(single)
    path = single / "model.safetensors"
    put(single, path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged or cut off"):
        list(read_weights(found))


def test_a_file_that_is_changed_after_it_was_found_is_told(single):
    found = find_weights(single)
    save_file(TENSORS | {"b.weight": torch.zeros(3, 2)}, single / "model.safetensors")
    with pytest.raises(ValueError, match="something is writing to the file"):
        list(read_weights(found))


# Files of PyTorch.


def test_python_objects_are_never_made(tmp_path):
    save({"w": torch.ones(2), "args": Namespace()}, tmp_path / "pytorch_model.bin")
    message = "holds Python objects beside tensors, and vasculora never runs code from a checkpoint"
    with pytest.raises(ValueError, match=f"{message}. Convert it to safetensors"):
        find_weights(tmp_path)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["zip", "old", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path, kind):
    sprung, content = tmp_path / "sprung", {"w": Trap(tmp_path / "sprung")}
    path = tmp_path / "pytorch_model.bin"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match=r"never runs code from a checkpoint. Convert it"):
        find_weights(tmp_path)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(content))
    assert sprung.exists()  # the trap itself works


@pytest.mark.parametrize(
    "content",
    [[torch.ones(2)], {"state_dict": {"w": torch.ones(2)}}, {1: torch.ones(2)}, {"epoch": 3}],
)
def test_more_than_tensors_by_name_is_told(tmp_path, content):
    save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors by name"):
        find_weights(tmp_path)


def test_a_changed_bit_in_a_file_of_pytorch_is_seen(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    save({"a.weight": torch.full((1000,), 0.5)}, path)
    whole = path.read_bytes()
    for place, look in (
        (whole.index(struct.pack("<f", 0.5) * 1000) + 2000, read_all),
        (whole.index(b"a.weight"), find_weights),
    ):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"is damaged or cut off .*CRC"):
            look(tmp_path)


# Whatever may happen to a file.


def harmed(data, draw):
    """Return data cut off somewhere, or with one bit changed."""
    at = draw.randrange(len(data))
    if draw.random() < 0.25:
        return data[:at]
    changed = bytearray(data)
    changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("single", "model.safetensors"),
        ("sharded", FIRST),
        ("sharded", INDEX),
        ("legacy", "pytorch_model-00001-of-00002.bin"),
    ],
)
def test_any_damage_is_told_or_harmless(folder, name, request):
    folder = request.getfixturevalue(folder)
    data, draw, told = (folder / name).read_bytes(), random.Random(7), []
    for _ in range(300):
        put(folder, harmed(data, draw), name=name)
        try:
            read_all(folder)
        except (ValueError, OSError) as fault:
            told.append(str(fault))
    assert len(told) > 100
    assert all(str(folder) in words and words.endswith((".", "`")) for words in told)
