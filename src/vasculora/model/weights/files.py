"""The weight files of a checkpoint's folder: what they hold, and their tensors, named as they are.

Safetensors come first; `pytorch_model.bin` is read only where there are none, and only what needs
no code to be run. Reading the index, reading the headers and reading the tensors are three
functions, because each can be wanted without the next: an index can be looked at without its
shards, and shapes without a single weight.

Tensors are views into the mapped file. So nothing but what the caller copies takes memory of its
own, and a shard can be larger than what is free.

A safetensors file has no checksum. What can be seen of damage is seen: a header that does not fit
its file, names that do not fit the index, and values that no trained weight has.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from vasculora.model.weights.file import (
    COPY_AGAIN,
    check_file,
    damaged,
    read_header,
    read_tensors,
    some_of,
)

MAX_VALUE = 1e6
"""Largest magnitude a weight may have.

Weights start near 0.02 and gains of norms near 1; trained, the largest reach some hundred. In
bfloat16 and float32 a flipped high bit of an exponent multiplies by 2^64 or more and lands far
beyond. Half precision ends at 65504: of its damage only infinity and not-a-number are seen.
"""

# An index or a single file, by preference: a folder that has both kinds has the second for old
# programs.
_LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
_FOREIGN = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".h5", ".msgpack")


@dataclass(frozen=True)
class Index:
    """What an index file says; nothing of it is checked against the shards.

    Attributes:
        path: The index file.
        file_of: The shard of each tensor.
        total_size: Bytes of all tensors, where the index says so.
        total_parameters: Their number of elements, where the index says so.
    """

    path: Path
    file_of: Mapping[str, Path]
    total_size: int | None
    total_parameters: int | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards, in the index's order."""
        return tuple(dict.fromkeys(self.file_of.values()))


@dataclass(frozen=True)
class Stored:
    """One tensor as the files describe it.

    Attributes:
        shape: Its shape.
        dtype: Its number format.
        file: The file it is in.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path


def read_index(folder: Path) -> Index | None:
    """Return what a folder's index says, or None where its weights are one file or none.

    The shards need not be there.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the index is damaged, or names files outside the folder.
        OSError: If it may not be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Give the folder of a checkpoint.")
    for index_name, file_name in _LAYOUTS:
        if _is_listed(folder / index_name):
            return _parse_index(folder / index_name)
        if _is_listed(folder / file_name):
            return None
    return None


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that hold a folder's weights, in the index's order; all of them are there.

    Raises:
        FileNotFoundError: If the folder, its weights or some of its shards are missing.
        ValueError: If the index is damaged, two sets of weights are there, or only files of other
            programs.
        OSError: If the index may not be read.
    """
    return _files(folder, read_index(folder))


def find_weights(folder: Path) -> dict[str, Stored]:
    """Return every tensor of a folder by its own name, from index and headers: no weight is read.

    Raises:
        FileNotFoundError: If weights are missing.
        ValueError: If a file is damaged, or files and index contradict each other.
        OSError: If a file may not be read.
    """
    found: dict[str, Stored] = {}
    index = read_index(folder)
    for file in _files(folder, index):
        for name, (shape, dtype) in read_header(file).items():
            if name in found:
                raise ValueError(
                    f"{folder}: tensor {name!r} is twice there, in {found[name].file.name} and in "
                    f"{file.name}, so the files belong to different checkpoints. Copy the whole "
                    "folder again."
                )
            found[name] = Stored(shape, dtype, file)
    if index is not None:
        _check_agreement(index, found)
    return found


def read_weights(found: Mapping[str, Stored]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors on the CPU, those of one file together, as views into the mapped file.

    Copy what is to be kept: a view keeps its file mapped, and ends with it.

    Args:
        found: What to read: all that `find_weights` returned, or a part of it.

    Raises:
        FileNotFoundError: If a file has gone since.
        ValueError: If a file is damaged or holds values no trained weight has; names the tensor.
        OSError: If a file may not be read.
    """
    names_of: dict[Path, list[str]] = {}
    for name, stored in found.items():
        names_of.setdefault(stored.file, []).append(name)
    for file, names in names_of.items():
        for name, tensor in read_tensors(file, names):
            _check_unchanged(found[name], name, tensor)
            _check_values(file, name, tensor)
            yield name, tensor


# The index.


def _parse_index(path: Path) -> Index:
    check_file(path)
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as cause:
        raise damaged(path, cause) from cause
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise damaged(path, "it has no weight_map")
    file_of = {name: _inside(path, place) for name, place in places.items()}
    metadata = content.get("metadata")
    totals = metadata if isinstance(metadata, dict) else {}
    return Index(
        path, file_of, *(_whole(totals.get(name)) for name in ("total_size", "total_parameters"))
    )


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twins = [name for name in content if names.count(name) > 1]
        raise ValueError(f"{some_of(twins)} twice there")
    return content


def _inside(path: Path, place: object) -> Path:
    if not isinstance(place, str):
        raise damaged(path, f"{place!r} is no file name")
    # Windows' rules know both separators. Only the words count: in the cache of a hub the files
    # themselves are links to elsewhere.
    words = PureWindowsPath(place)
    if words.anchor or ".." in words.parts or not words.parts:
        raise ValueError(
            f"{path}: names a weight file outside its folder, {place!r}. An honest index never "
            "does; get the checkpoint from its publisher."
        )
    return path.parent / place


def _whole(number: object) -> int | None:
    # Some programs write the total as 1.6e10; what is no number at all is not worth a refusal.
    if isinstance(number, bool) or not isinstance(number, int | float) or number % 1 != 0:
        return None
    return int(number)


def _check_one_set(index: Index) -> None:
    file_name = dict(_LAYOUTS)[index.path.name]
    single = index.path.parent / file_name
    if _is_listed(single) and single not in index.files:
        raise ValueError(
            f"{index.path.parent}: holds both {file_name} and {index.path.name}, and which of the "
            "two is meant cannot be known. Remove the one that is left over."
        )


def _check_agreement(index: Index, found: Mapping[str, Stored]) -> None:
    gone = [name for name in index.file_of if name not in found]
    extra = [name for name in found if name not in index.file_of]
    moved = [
        name for name in found if index.file_of.get(name, found[name].file) != found[name].file
    ]
    told = [
        f"{len(names)} tensors {what}: {some_of(names)}"
        for names, what in (
            (gone, "are in no weight file"),
            (extra, "are in a weight file only"),
            (moved, "are in another weight file than it says"),
        )
        if names
    ]
    if told:
        raise ValueError(
            f"{index.path}: does not fit the weight files beside it: {'; '.join(told)}. Copy the "
            "index and all weight files again, from one place."
        )


# Which files there are.


def _files(folder: Path, index: Index | None) -> tuple[Path, ...]:
    if index is None:
        return (_single_file(folder),)
    _check_one_set(index)
    missing = [file.name for file in index.files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {len(index.files)} weight files that {index.path.name} "
            f"names are missing: {some_of(missing)}. Copy them into the folder; a broken-off "
            "download goes on when it is started again."
        )
    return index.files


def _is_listed(path: Path) -> bool:
    return path.exists() or path.is_symlink()  # a link to nothing is to be told, not passed over


def _single_file(folder: Path) -> Path:
    for _, file_name in _LAYOUTS:
        if _is_listed(folder / file_name):
            return folder / file_name
    foreign = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _FOREIGN)
    if not foreign:
        raise FileNotFoundError(
            f"{folder}: holds no weights. Expected model.safetensors, or several with "
            "model.safetensors.index.json. Give the folder of a whole checkpoint."
        )
    raise ValueError(
        f"{folder}: holds {some_of(foreign)}, but none of the files that are read: "
        "model.safetensors, or several with model.safetensors.index.json (or the same as "
        "pytorch_model.bin). If these are shards, copy their index too; otherwise export the model "
        "as safetensors, where it was trained, and give that folder."
    )


def _check_unchanged(stored: Stored, name: str, tensor: Tensor) -> None:
    if (tuple(tensor.shape), tensor.dtype) != (stored.shape, stored.dtype):
        raise ValueError(
            f"{stored.file}: tensor {name!r} is {tensor.dtype} of shape {tuple(tensor.shape)}, and "
            f"was {stored.dtype} of shape {stored.shape} a moment ago: something is writing to the "
            "file. Wait until it has finished and try again."
        )


def _check_values(path: Path, name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or not tensor.numel():
        return
    # One pass without a copy; not-a-number comes through both, and fails every comparison.
    least, most = (float(value) for value in torch.aminmax(tensor))
    worst = least if abs(least) > abs(most) or math.isnan(least) else most
    if not abs(worst) <= MAX_VALUE:
        raise ValueError(
            f"{path}: tensor {name!r} holds {worst:.4g}, which no trained weight has: the file is "
            f"damaged, or the model was saved after its training had diverged. {COPY_AGAIN}"
        )
