"""One weight file: how its tensors are described, and the tensors; no code in it is ever run.

Safetensors, or what `torch.save` wrote where it holds tensors by name and nothing else. Tensors are
views into the mapped file, so they take no memory of their own.

A safetensors file has no checksum, so of its damage only a header is seen that does not fit the
file. In a file of PyTorch there are checksums, and they are compared.
"""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import safe_open
from torch import Tensor

from vasculora.core.runtime import is_out_of_memory

COPY_AGAIN = "Copy it again from where it came from."

_LFS_START = b"version https://git-lfs"
_PICKLE_START = b"\x80"
_NUM_NAMED = 5
_DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


Described = tuple[tuple[int, ...], torch.dtype]
"""Shape and number format of a tensor."""


def read_header(path: Path) -> dict[str, Described]:
    """Return how a file describes its tensors; no weight is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds more than tensors.
        OSError: If it may not be read.
    """
    if path.suffix == ".bin":
        return {
            name: (tuple(tensor.shape), _known(path, tensor.dtype))
            for name, tensor in _load_torch(path).items()
        }
    check_file(path)
    with _clear_errors(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        described = {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    return {
        name: (shape, _known(path, _DTYPES.get(code, code)))
        for name, (shape, code) in described.items()
    }


def read_tensors(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors of one file, in the order of `names`, as views into the mapped file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, lacks a name, or holds more than tensors.
        OSError: If it may not be read.
    """
    read = _read_torch if path.suffix == ".bin" else _read_safetensors
    yield from read(path, names)


def check_file(path: Path) -> bytes:
    """Return how a file starts; refuse what cannot be one of a checkpoint's files."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder where a file was expected. {COPY_AGAIN}")
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_START))
    except OSError as cause:
        raise _unreadable(path, cause) from cause
    if not start:
        raise ValueError(f"{path}: is empty. {COPY_AGAIN}")
    if start == _LFS_START:
        raise ValueError(
            f"{path}: is a Git LFS pointer, {path.stat().st_size} bytes, not the file itself. Run "
            "`git lfs pull` in its folder."
        )
    return start


def _known(path: Path, dtype: object) -> torch.dtype:
    if isinstance(dtype, torch.dtype) and dtype in _DTYPES.values():
        return dtype
    raise ValueError(
        f"{path}: holds tensors of the number format {dtype}. Known: "
        f"{', '.join(_DTYPES)}. Quantised weights are not read; use the checkpoint they were made "
        "from."
    )


def _read_safetensors(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    check_file(path)
    with _clear_errors(path), safe_open(path, framework="pt") as file:
        for name in names:
            yield name, file.get_tensor(name)


def _read_torch(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    tensors = _load_torch(path)
    with _clear_errors(path):
        _check_sums(path, whole=True)
        for name in names:
            yield name, tensors[name].detach()


def _load_torch(path: Path) -> dict[str, Tensor]:
    start = check_file(path)
    if start.startswith(_PICKLE_START):
        raise _needs_code(path, "is a bare pickle, or older than PyTorch 1.6")
    with _clear_errors(path):
        _check_sums(path, whole=False)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(content, dict) or not all(map(_is_plain, content.items())):
        raise _needs_code(path, "holds more than tensors by name")
    return dict(content)


def _is_plain(item: tuple[object, object]) -> bool:
    name, value = item
    if not isinstance(name, str) or not isinstance(value, Tensor):
        return False
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized


def _check_sums(path: Path, *, whole: bool) -> None:
    """Compare the checksums PyTorch wrote; it does not do so itself where it maps a file."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile(f"{entry.filename} is compressed")
            if not whole and not entry.filename.endswith("/data.pkl"):
                continue
            with archive.open(entry) as part:
                while part.read(2**20):
                    pass


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnpicklingError as cause:
        raise _needs_code(path, "holds Python objects beside tensors") from cause
    except OSError as cause:
        raise _unreadable(path, cause) from cause
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise damaged(path, cause) from cause


def _unreadable(path: Path, cause: OSError) -> OSError:
    return type(cause)(
        f"{path}: cannot be read: {cause.strerror or cause}. Make sure that it is there and that "
        "you may read it."
    )


def damaged(path: Path, cause: Exception | str) -> ValueError:
    """Return the error that says a file is damaged, and how that was seen."""
    reason = str(cause).split("\n")[0].rstrip(".")
    return ValueError(f"{path}: is damaged or cut off ({reason}). {COPY_AGAIN}")


def _needs_code(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path}: {what}, and vasculora never runs code from a checkpoint. Convert it to "
        "safetensors."
    )


def some_of(names: Sequence[str]) -> str:
    """Return the first few of `names` as a list in words, and how many more there are."""
    rest = len(names) - _NUM_NAMED
    return ", ".join(map(repr, names[:_NUM_NAMED])) + (f" and {rest} more" if rest > 0 else "")
