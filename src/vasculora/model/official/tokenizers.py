"""The tokenizer of an official Sa2VA folder, without running the code that lies in it.

Qwen2's files are read by transformers as they are. InternLM2's folders hold a SentencePiece model
and a Python class; the class is not run, and transformers' own Llama gives other ids. So the model
file is read here as what it is, a table of pieces, and made into the same byte-pair encoding. The
`sentencepiece` package is not used: it refuses a piece of the released model, the null character.

A damaged folder must not give other ids in silence: every id that the folder's own table of added
tokens states is compared with what the finished tokenizer answers.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import import_protobuf

from vasculora.model.weights.file import check_file

BLANK = "\u2581"
"""What SentencePiece writes for a space."""
QWEN2 = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
INTERNLM2 = ("InternLM2Tokenizer", "InternLM2TokenizerFast")
INTERNLM2_MARKS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "</s>",
}
"""Marks of the class where the folder states no others."""
KEPT = ("model_max_length", "padding_side", "clean_up_tokenization_spaces", "chat_template")
"""Settings of tokenizer_config.json that hold for any tokenizer."""
FLAGS = {"content", "lstrip", "rstrip", "single_word", "normalized", "special", "__type"}
"""What tokenizer_config.json says of an added token."""


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of an official folder, with the official ids.

    Nothing is fetched and no code of the folder is run. Where it names no padding token, the end
    token stands in, as in the official generation.

    Args:
        path: Folder of the checkpoint.

    Raises:
        FileNotFoundError: If there is no folder, or no tokenizer in it.
        ValueError: If the tokenizer is damaged, contradicts itself or needs code of the folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: expected the folder of a checkpoint. Check the path.")
    config = _read_json(path / "tokenizer_config.json")
    added = _added_tokens(path, config)
    template = _template_file(path)
    tokenizer = _open(path, config, added)
    if template:
        tokenizer.chat_template = template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    _check(path, tokenizer, added)
    return tokenizer


def _open(
    path: Path, config: Mapping[str, Any], added: Mapping[int, AddedToken]
) -> PreTrainedTokenizerFast:
    """Return the tokenizer from the files that are there, as the class named would choose."""
    name = config.get("tokenizer_class")
    if name in INTERNLM2 and (path / "tokenizer.model").is_file():
        check_file(path / "tokenizer.model")
        return _open_internlm2(path, config, added)
    if (path / "tokenizer.json").is_file():
        check_file(path / "tokenizer.json")
        return _open_qwen2(path, PreTrainedTokenizerFast, "tokenizer.json")
    files = (path / "vocab.json", path / "merges.txt")
    if name in (*QWEN2, None) and all(file.is_file() for file in files):
        _check_merges(path, added)
        return _open_qwen2(path, Qwen2Tokenizer, "vocab.json and merges.txt")
    if name not in (*QWEN2, *INTERNLM2, None):
        code = " and asks for code of the folder (auto_map)" if "auto_map" in config else ""
        raise ValueError(
            f"{path}: tokenizer_config.json names the class {name!r}{code}, and vasculora never "
            f"runs code from a checkpoint. Known without a tokenizer.json: {QWEN2[0]}, "
            f"{INTERNLM2[0]}. Put the base model's tokenizer.json into the folder."
        )
    raise FileNotFoundError(
        f"{path}: no tokenizer. Expected tokenizer.json, vocab.json with merges.txt (Qwen2), or "
        "tokenizer.model (InternLM2, named in tokenizer_config.json). Copy the published files."
    )


def _open_qwen2(
    path: Path, kind: type[PreTrainedTokenizerFast], files: str
) -> PreTrainedTokenizerFast:
    """Return what transformers reads from the folder; the class is given, so it asks for none."""
    try:
        return kind.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as cause:
        if not (path / "tokenizer_config.json").is_file():
            files += " (tokenizer_config.json is missing)"
        raise _damaged(path, files, cause) from cause


def _check_merges(path: Path, added: Mapping[int, AddedToken]) -> None:
    """Raise ValueError if a piece of vocab.json can be made by no line of merges.txt.

    A merges file cut short is still one that can be read, but gives other ids.
    """
    try:
        merges = (path / "merges.txt").read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as cause:
        raise _damaged(path, "merges.txt", cause) from cause
    made = {line.replace(" ", "") for line in merges} | {token.content for token in added.values()}
    for piece in _read_json(path / "vocab.json"):
        if len(piece) > 1 and piece not in made:
            raise ValueError(
                f"{path}: expected a line of merges.txt for every piece of vocab.json, {piece!r} "
                "has none. The file may be cut short; copy both again."
            )


def _open_internlm2(
    path: Path, config: Mapping[str, Any], added: Mapping[int, AddedToken]
) -> PreTrainedTokenizerFast:
    """Return InternLM2's tokenizer, made from its table of pieces."""
    mapped = _read_json(path / "special_tokens_map.json")
    try:
        marks = _marks(config, mapped)
        tokenizer = _build_bpe(_parse((path / "tokenizer.model").read_bytes()), added)
        tokenizer.add_special_tokens(
            [AddedToken(mark, normalized=False) for mark in marks.values()]
        )
        tokenizer.post_processor = _frame(tokenizer, config, marks)
        others = [token.content for token in added.values() if token.special]
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            extra_special_tokens=[name for name in others if name not in marks.values()],
            **marks,
            **{key: config[key] for key in KEPT if key in config},
        )
    except Exception as cause:
        raise _damaged(path, "tokenizer.model", cause) from cause


def _parse(content: bytes) -> Any:
    """Return the message in a SentencePiece file whose kind of tokens can be built.

    A file cut short between two fields is still a message, so its parts are asked for.
    """
    proto = import_protobuf().ModelProto()
    proto.ParseFromString(content)
    if not (proto.pieces and proto.HasField("trainer_spec") and proto.HasField("normalizer_spec")):
        raise ValueError("expected pieces, trainer_spec and normalizer_spec, a part is missing")
    trained = proto.trainer_spec
    if trained.model_type != trained.BPE or trained.treat_whitespace_as_suffix:
        raise ValueError("expected byte-pair encoding with blanks before words")
    if not proto.normalizer_spec.escape_whitespaces:
        raise ValueError("expected blanks to be escaped")
    return proto


def _build_bpe(proto: Any, added: Mapping[int, AddedToken]) -> Tokenizer:
    """Return the encoding that SentencePiece does with these pieces, and the added tokens."""
    names = [piece.piece for piece in proto.pieces]
    for index in added.keys() & range(len(names)):
        # The released model keeps numbers free for marks that only the table of added tokens names.
        names[index] = added[index].content
    vocab = _vocab(names)
    kind = proto.SentencePiece
    unknown = [
        names[index] for index, piece in enumerate(proto.pieces) if piece.type == kind.UNKNOWN
    ]
    if len(unknown) != 1:
        raise ValueError(f"expected one unknown piece, got {len(unknown)}")
    tokenizer = Tokenizer(
        BPE(
            vocab=vocab,
            merges=_merges(_scores(proto, kind.NORMAL, added), vocab),
            unk_token=unknown[0],
            fuse_unk=True,
            byte_fallback=_has_bytes(proto, vocab),
        )
    )
    # A single character is never split, and takes part in no merge.
    whole = [piece for piece in _scores(proto, kind.USER_DEFINED, added) if len(piece) > 1]
    tokenizer.normalizer = _normalizer(proto.normalizer_spec, whole)
    tokenizer.decoder = _decoder(proto.normalizer_spec)
    # Looked for after normalising: they are written with the mark for a space, and what follows
    # them within a text begins with no further blank.
    tokenizer.add_tokens([AddedToken(piece, normalized=True, special=False) for piece in whole])
    tokenizer.add_tokens([token for _, token in sorted(added.items())])
    return tokenizer


def _vocab(names: Sequence[str]) -> dict[str, int]:
    vocab = {name: index for index, name in enumerate(names)}
    for index, name in enumerate(names):
        if vocab[name] != index:
            raise ValueError(f"expected a name of its own for piece {index}, got {name!r}")
    return vocab


def _scores(proto: Any, kind: int, added: Mapping[int, AddedToken]) -> dict[str, float]:
    """Return the pieces of one kind and their scores, without those that stand for another."""
    scores = {
        piece.piece: float(piece.score)
        for index, piece in enumerate(proto.pieces)
        if piece.type == kind and index not in added
    }
    if not all(math.isfinite(score) for score in scores.values()):
        raise ValueError("expected finite scores, a piece has none")
    return scores


def _has_bytes(proto: Any, vocab: Mapping[str, int]) -> bool:
    """Return whether a character without a piece becomes its bytes."""
    if proto.trainer_spec.byte_fallback:
        for value in range(256):
            if f"<0x{value:02X}>" not in vocab:
                raise ValueError(f"expected a piece for every byte, <0x{value:02X}> has none")
    return bool(proto.trainer_spec.byte_fallback)


def _merges(scores: Mapping[str, float], vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return every way to make a piece from two, the best piece first.

    SentencePiece joins the neighbours whose joint piece has the highest score. Only normal pieces
    take part: control and byte pieces are never met in text, user-defined ones never made from
    parts or part of others.
    """
    merges = [
        (left, right)
        for piece in scores
        for cut in range(1, len(piece))
        if (left := piece[:cut]) in scores and (right := piece[cut:]) in scores
    ]
    merges.sort(key=lambda pair: (-scores[pair[0] + pair[1]], vocab[pair[0]], vocab[pair[1]]))
    return merges


def _normalizer(spec: Any, whole: Sequence[str]) -> normalizers.Normalizer:
    """Return what is done to a text before its pieces are looked for, in SentencePiece's order."""
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex("^ +| +$| +(?= )"), ""))
    steps.append(normalizers.Replace(" ", BLANK))
    if spec.add_dummy_prefix and whole:
        # The tokenizers library normalises a user-defined piece too before it looks for it, and
        # must find it without the blank. A text that is nothing but such a piece gets none either.
        pieces = "|".join(re.escape(piece) for piece in whole)
        steps.append(normalizers.Replace(Regex(rf"\A(?=[\s\S])(?!(?:{pieces})\z)"), BLANK))
    elif spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(BLANK))
    return normalizers.Sequence(steps)


def _decoder(spec: Any) -> decoders.Decoder:
    steps = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if spec.add_dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1, right=0))
    return decoders.Sequence(steps)


def _frame(
    tokenizer: Tokenizer, config: Mapping[str, Any], marks: Mapping[str, str]
) -> processors.TemplateProcessing:
    """Return what puts the marks of begin and end around a text; by default the first alone."""
    begin = [marks["bos_token"]] if config.get("add_bos_token", True) else []
    end = [marks["eos_token"]] if config.get("add_eos_token", False) else []
    return processors.TemplateProcessing(
        single=[*begin, "$A", *end],
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in begin + end],
    )


def _marks(config: Mapping[str, Any], mapped: Mapping[str, Any]) -> dict[str, str]:
    """Return InternLM2's marks of begin, end, unknown and padding, as the folder names them."""
    marks = {}
    for key, usual in INTERNLM2_MARKS.items():
        mark = config.get(key) or mapped.get(key) or usual
        marks[key] = str(mark["content"] if isinstance(mark, dict) else mark)
    return marks


def _added_tokens(path: Path, config: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Return the folder's own table of added tokens by id; empty where it has none."""
    table = config.get("added_tokens_decoder")
    file = path / ("added_tokens.json" if table is None else "tokenizer_config.json")
    if table is None:
        names = _read_json(file)
        table = {index: {"content": name, "special": True} for name, index in names.items()}
    try:
        return {int(index): _added_token(token) for index, token in table.items()}
    except Exception as cause:
        raise _damaged(path, file.name, cause) from cause


def _added_token(entry: Mapping[str, Any]) -> AddedToken:
    """Return an entry of the table, to be looked for in the text as it was given."""
    if unknown := sorted(entry.keys() - FLAGS):
        raise ValueError(f"unknown key {unknown[0]!r} of an added token")
    flags = {key: value for key, value in entry.items() if key != "__type"}
    return AddedToken(**{**flags, "normalized": False})


def _check(path: Path, tokenizer: PreTrainedTokenizerFast, added: Mapping[int, AddedToken]) -> None:
    """Raise ValueError if a token has another id than the folder states, or none."""
    if tokenizer.eos_token is None:
        raise ValueError(
            f"{path}: expected an eos_token in tokenizer_config.json or special_tokens_map.json, "
            "got none. Copy the published files."
        )
    for index, token in added.items():
        got = tokenizer.convert_tokens_to_ids(token.content)
        if got != index:
            raise ValueError(
                f"{path}: the token {token.content!r} should have the id {index}, but has {got}. "
                "The tokenizer's files do not belong together; copy them again."
            )
    for mark in {tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token} - {None}:
        number = tokenizer.convert_tokens_to_ids(mark)
        if added and number >= tokenizer.vocab_size and number not in added:
            raise ValueError(
                f"{path}: {mark!r} is named as a mark of begin, end or padding, but is no token "
                "of the vocabulary. Copy tokenizer_config.json again."
            )


def _template_file(path: Path) -> str | None:
    """Return the chat template that stands in a file of its own, in the present form or the old."""
    present, old = path / "chat_template.jinja", path / "chat_template.json"
    if present.is_file():
        try:
            return present.read_text(encoding="utf-8")
        except UnicodeDecodeError as cause:
            raise _damaged(path, present.name, cause) from cause
    template = _read_json(old).get("chat_template")
    if template is not None and not isinstance(template, str):
        raise _damaged(path, old.name, TypeError("its chat_template is no text"))
    return template


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as cause:
        raise _damaged(path.parent, path.name, cause) from cause
    if not isinstance(content, dict):
        raise _damaged(path.parent, path.name, TypeError("not a JSON object"))
    return content


def _damaged(path: Path, files: str, cause: Exception) -> ValueError:
    reason = (str(cause) or type(cause).__name__).splitlines()[0]
    return ValueError(
        f"{path}: expected a tokenizer in {files}, but it cannot be read ({reason}). Copy it again."
    )
