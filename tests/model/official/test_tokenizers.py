"""The tokenizers of official folders: ids as published, nothing run, damage named."""

import json
import random
import shutil
import socket
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import import_protobuf

from vasculora.model.official.tokenizers import load_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
START = [("<unk>", UNKNOWN, 0.0), ("<s>", CONTROL, 0.0), ("</s>", CONTROL, 0.0)]
BYTES = [(f"<0x{value:02X}>", BYTE, 0.0) for value in range(256)]
FIRST = 3 + 256
"""Id of the first piece after the marks and bytes."""
FAMILIES = ("internvl_qwen2", "internvl_internlm2", "qwen2_5_vl", "qwen3_vl")
QWEN2_FAMILIES = ("internvl_qwen2", "qwen2_5_vl", "qwen3_vl")
TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ALPHABET = "abcdefgh ETAOIN  \n\n\t0123456789.,[]<>|/éßñ中国血管🩸\u0301\u200b\x00"


def normal(*pieces):
    """Pieces in the order of their worth, the first the best."""
    return [(piece, NORMAL, -float(index)) for index, piece in enumerate(pieces)]


def write_internlm2(
    path, pieces, *, blank_first=False, added=None, squeeze=False, charsmap=b"", bytes_=True
):
    """Write a folder as InternLM2's are released: a model file and a class that is not there."""
    proto = import_protobuf().ModelProto()
    for piece, kind, score in [*START, *(BYTES if bytes_ else []), *pieces]:
        proto.pieces.add(piece=piece, type=kind, score=score)
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    proto.trainer_spec.byte_fallback = bytes_
    proto.normalizer_spec.add_dummy_prefix = blank_first
    proto.normalizer_spec.remove_extra_whitespaces = squeeze
    proto.normalizer_spec.precompiled_charsmap = charsmap
    config = {
        "tokenizer_class": "InternLM2Tokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "added_tokens_decoder": {
            str(index): {"content": content, "special": True}
            for index, content in (added or {}).items()
        },
    }
    path.mkdir(exist_ok=True)
    (path / "tokenizer.model").write_bytes(proto.SerializeToString())
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def tokens(path, text):
    tokenizer = load_tokenizer(path)
    return tokenizer.convert_ids_to_tokens(tokenizer.encode(text, add_special_tokens=False))


def copy(shared_dir, family, path, *, without=None):
    """Copy a golden folder's tokenizer, leaving a file out."""
    for file in (shared_dir / "golden" / family / "checkpoint").iterdir():
        if file.name not in ("model.safetensors", without):
            shutil.copyfile(file, path / file.name)
    return path


# --- InternLM2: hand-made pieces ---------------------------------------------------------------


def test_internlm2_joins_the_best_pair_first_and_begins_with_its_mark(tmp_path):
    # "bc" is worth more than "ab", so a|bc though "ab" comes first in the text.
    path = write_internlm2(tmp_path, normal("bc", "ab", "abc", "a", "b", "c"))
    tokenizer = load_tokenizer(path)
    assert tokenizer.encode("ab") == [1, FIRST + 1]
    assert tokenizer.encode("xab") == [1, 3 + ord("x"), FIRST + 1]
    # a|bc makes "abc" again: every split of a piece into two pieces is a way to it.
    assert tokenizer.encode("abc") == [1, FIRST + 2]
    assert tokenizer.encode("bcab") == [1, FIRST, FIRST + 1]
    assert tokenizer.encode("") == [1]


def test_internlm2_writes_unknown_characters_as_bytes(tmp_path):
    path = write_internlm2(tmp_path, normal("a"))
    tokenizer = load_tokenizer(path)
    assert tokenizer.encode("aé") == [1, FIRST, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode([FIRST, 3 + 0xC3, 3 + 0xA9]) == "aé"


def test_internlm2_without_bytes_has_one_unknown_for_a_run(tmp_path):
    path = write_internlm2(tmp_path, normal("a"), bytes_=False)
    assert load_tokenizer(path).encode("xya") == [1, 0, 3]


def test_internlm2_puts_a_blank_before_a_text_only_where_its_file_says_so(tmp_path):
    pieces = normal("▁a", "▁", "a", "b")
    with_blank = write_internlm2(tmp_path / "with", pieces, blank_first=True)
    without = write_internlm2(tmp_path / "without", pieces)
    assert tokens(with_blank, "ab a") == ["▁a", "b", "▁a"]
    assert tokens(without, "ab a") == ["a", "b", "▁a"]
    for path in (with_blank, without):
        tokenizer = load_tokenizer(path)
        assert tokenizer.decode(tokenizer.encode(" a ")[1:]) == " a "


def test_internlm2_squeezes_blanks_only_where_its_file_says_so(tmp_path):
    pieces = normal("▁", "a", "b")
    kept = write_internlm2(tmp_path / "kept", pieces)
    squeezed = write_internlm2(tmp_path / "squeezed", pieces, squeeze=True)
    assert tokens(kept, "  a  b ") == ["▁", "▁", "a", "▁", "▁", "b", "▁"]
    assert tokens(squeezed, "  a  b ") == ["a", "▁", "b"]


def test_internlm2_maps_characters_as_its_file_says(tmp_path):
    # A double-array trie that holds one key, A, whose text is "bb": see the Darts-clone format.
    units = [0] * 512
    units[0] = 0x100 << 10
    units[0x100 ^ ord("A")] = ord("A") | 1 << 8 | 3 << 10
    units[0x100 ^ ord("A") ^ 3] = 1 << 31
    charsmap = struct.pack("<I", 4 * 512) + struct.pack("<512I", *units) + b"bb\0"
    path = write_internlm2(tmp_path, normal("bb", "a", "b"), charsmap=charsmap)
    assert tokens(path, "aA") == ["a", "bb"]


@pytest.mark.parametrize("blank_first", [False, True])
def test_internlm2_never_splits_a_user_defined_piece(tmp_path, blank_first):
    pieces = [("a\n", USER_DEFINED, 0.0), *normal("ba", "▁b", "a", "b", "\n", "▁")]
    path = write_internlm2(tmp_path, pieces, blank_first=blank_first)
    # "ba" would win over "a\n" if the piece were made of parts; no second blank comes after it.
    want = ["▁b", "a\n", "b"] if blank_first else ["b", "a\n", "b"]
    assert tokens(path, "ba\nb") == want
    assert tokens(path, "b a\n")[-1] == "a\n"


def test_internlm2_takes_a_user_defined_blank_run_whole(tmp_path):
    pieces = [("▁▁", USER_DEFINED, 0.0), ("\n", USER_DEFINED, 0.0), *normal("▁a", "▁", "a")]
    path = write_internlm2(tmp_path, pieces, blank_first=True)
    assert tokens(path, "a   a") == ["▁a", "▁▁", "▁a"]
    assert tokens(path, "\n") == ["▁", "\n"]


def test_internlm2_never_reads_a_byte_or_control_piece_from_text(tmp_path):
    pieces = normal("<0", "x41>", "<", "0", "x", "4", "1", ">", "x4", "x41")
    path = write_internlm2(tmp_path, pieces)
    assert tokens(path, "<0x41>") == ["<0", "x41>"]


def test_internlm2_has_the_null_character(tmp_path):
    path = write_internlm2(tmp_path, normal("\x00", "a"))
    assert load_tokenizer(path).encode("a\x00") == [1, FIRST + 1, FIRST]


def test_internlm2_gives_reserved_numbers_to_the_marks_that_claim_them(tmp_path):
    # As in the released model, whose last pieces are reserved under another name.
    pieces = [*normal("a", "b"), ("[UNUSED_1]", USER_DEFINED, 0.0), ("[UNUSED_2]", NORMAL, -9.0)]
    added = {FIRST + 2: "<|im_end|>", FIRST + 3: "<|im_start|>", FIRST + 4: "[SEG]"}
    tokenizer = load_tokenizer(write_internlm2(tmp_path, pieces, added=added))
    ids = tokenizer.encode("<|im_start|>a[SEG]b<|im_end|>")
    assert ids == [1, FIRST + 3, FIRST, FIRST + 4, FIRST + 1, FIRST + 2]
    assert len(tokenizer) == FIRST + 5
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab"


def reference(pieces, text, *, blank_first):
    """Encode as SentencePiece does: join the best pair, the leftmost of equals, until none is."""
    user = sorted((p for p, kind, _ in pieces if kind == USER_DEFINED), key=len, reverse=True)
    scores = {piece: score for piece, kind, score in pieces if kind == NORMAL}
    text = ("▁" if blank_first and text else "") + text.replace(" ", "▁")
    parts = []
    while text:
        whole = next((piece for piece in user if text.startswith(piece)), None)
        parts.append((whole or text[0], whole is not None))
        text = text[len(parts[-1][0]) :]
    while True:
        pairs = [
            (scores[left + right], -index)
            for index, ((left, fixed), (right, also)) in enumerate(pairwise(parts))
            if not fixed and not also and left + right in scores
        ]
        if not pairs:
            break
        at = -max(pairs)[1]
        parts[at : at + 2] = [(parts[at][0] + parts[at + 1][0], False)]
    ids = {piece: index for index, (piece, _, _) in enumerate([*START, *BYTES, *pieces])}
    return [
        number
        for part, _ in parts
        for number in ([ids[part]] if part in ids else [3 + byte for byte in part.encode()])
    ]


@pytest.mark.parametrize("seed", range(8))
def test_internlm2_encodes_as_sentencepiece_over_any_pieces(tmp_path, seed):
    rng = random.Random(seed)
    single = list("ab▁cé"[: rng.randint(3, 5)])
    made = list(dict.fromkeys(single))
    for _ in range(25):
        piece = rng.choice(made) + rng.choice(made)
        if piece not in made and len(piece) < 9:
            made.append(piece)
    user = sorted({"".join(rng.choices("a▁\n[", k=3)) for _ in range(3)} - set(made))
    pieces = [
        *normal(*made[len(single) :]),
        *((piece, NORMAL, -100.0 - index) for index, piece in enumerate(single)),
        *((piece, USER_DEFINED, 0.0) for piece in (user if seed % 2 else [])),
    ]
    blank_first = seed % 4 > 1
    tokenizer = load_tokenizer(write_internlm2(tmp_path, pieces, blank_first=blank_first))
    for _ in range(100):
        # The x keeps a text from being a user-defined piece and nothing else.
        text = "x" + "".join(rng.choices([*single, *user, " ", "\n", "猫"], k=rng.randint(0, 20)))
        text = text.replace("▁", " ")
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == reference(pieces, text, blank_first=blank_first), text
        assert tokenizer.decode(ids) == text


def test_internlm2_reads_marks_template_and_ends_from_its_folder(tmp_path):
    path = write_internlm2(tmp_path, normal("a"))
    config = {
        "tokenizer_class": "InternLM2Tokenizer",
        "add_bos_token": False,
        "add_eos_token": True,
        "chat_template": "of the config",
        "model_max_length": 77,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "special_tokens_map.json").write_text('{"pad_token": {"content": "<unk>"}}')
    (path / "added_tokens.json").write_text(json.dumps({"[SEG]": FIRST + 1}))
    tokenizer = load_tokenizer(path)
    assert tokenizer.encode("a[SEG]") == [FIRST, FIRST + 1, 2]
    assert tokenizer.decode([FIRST, FIRST + 1], skip_special_tokens=True) == "a"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    assert tokenizer.chat_template == "of the config"
    assert tokenizer.model_max_length == 77
    (path / "chat_template.json").write_text('{"chat_template": "of the old file"}')
    assert load_tokenizer(path).chat_template == "of the old file"
    (path / "chat_template.jinja").write_text("of the file")
    assert load_tokenizer(path).chat_template == "of the file"


def test_internlm2_is_the_same_when_saved_and_read_again(tmp_path):
    pieces = [("a\n", USER_DEFINED, 0.0), *normal("▁a", "▁", "a", "b")]
    added = {FIRST + 5: "[SEG]"}
    path = write_internlm2(tmp_path / "here", pieces, blank_first=True, added=added)
    tokenizer = load_tokenizer(path)
    tokenizer.save_pretrained(tmp_path / "there")
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path / "there", local_files_only=True)
    for text in ("b aa\na[SEG]b", "a\n", ""):
        assert again.encode(text) == tokenizer.encode(text)
    assert (again.pad_token, again.eos_token) == ("</s>", "</s>")


# --- Official folders --------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    """Fail on any connection."""

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def golden(shared_dir, family):
    folder = shared_dir / "golden" / family
    cases = json.loads((folder / "meta.json").read_text())["cases"]
    return folder / "checkpoint", cases, load_file(folder / "golden.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_golden_ids_are_those_of_the_original(shared_dir, family, offline):
    path, cases, tensors = golden(shared_dir, family)
    tokenizer = load_tokenizer(path)
    for case, facts in cases.items():
        answer = tokenizer.encode(facts["answer"] + "<|im_end|>", add_special_tokens=False)
        assert answer == tensors[f"{case}/generated_ids"].ravel().tolist()
    for case in ("image", "text"):
        prompt = _prompt(tokenizer, family, cases[case]["text"], tensors[f"{case}/input_ids"])
        assert tokenizer.encode(prompt) == tensors[f"{case}/input_ids"].ravel().tolist()


def _prompt(tokenizer, family, text, ids):
    """Build the official prompt, its image as long as in the golden ids."""
    if family.startswith("internvl"):
        count = int((ids == tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")).sum())
        return TURN.format(text.replace("<image>", f"<img>{'<IMG_CONTEXT>' * count}</img>"))
    count = int((ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).sum())
    images = [{"type": "image"}] if "<image>" in text else []
    content = [*images, {"type": "text", "text": text.replace("<image>", "")}]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return prompt.replace("<|image_pad|>", "<|image_pad|>" * count)


@pytest.mark.parametrize("family", FAMILIES)
def test_golden_marks_and_template(shared_dir, family):
    path, _, _ = golden(shared_dir, family)
    tokenizer = load_tokenizer(path)
    marks = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)
    internlm2 = family == "internvl_internlm2"
    assert marks == (
        ("<s>", "</s>", "</s>") if internlm2 else (None, "<|im_end|>", "<|endoftext|>")
    )
    assert (tokenizer.chat_template is not None) == (not family.startswith("internvl"))
    added = json.loads((path / "added_tokens.json").read_text())
    assert tokenizer.convert_tokens_to_ids(list(added)) == list(added.values())
    assert tokenizer.decode(list(added.values()), skip_special_tokens=True) == ""


def test_the_end_token_pads_where_no_other_is_named(shared_dir, tmp_path):
    path = copy(shared_dir, "qwen3_vl", tmp_path)
    text = (path / "tokenizer_config.json").read_text()
    text = text.replace('"pad_token": "<|endoftext|>"', '"pad_token": null')
    (path / "tokenizer_config.json").write_text(text)
    assert load_tokenizer(path).pad_token_id == load_tokenizer(path).eos_token_id == 360


def texts(num, seed, marks=()):
    """Return random texts of every kind of character, marks strewn in."""
    rng = random.Random(seed)
    pool = [*ALPHABET, *marks, "Please segment the ", " region", "It is"]
    drawn = ["".join(rng.choices(pool, k=rng.randint(1, 40))) for _ in range(num)]
    return ["", " ", "\n", "  \n ", *drawn]


def test_golden_internlm2_equals_the_converted_tokenizer(shared_dir, tmp_path):
    path, _, _ = golden(shared_dir, "internvl_internlm2")
    official = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    own = load_tokenizer(copy(shared_dir, "internvl_internlm2", tmp_path, without="tokenizer.json"))
    assert own.get_vocab() == official.get_vocab()
    assert own.all_special_ids == official.all_special_ids
    for text in texts(1000, 0, official.all_special_tokens):
        assert own.encode(text) == official.encode(text), text
    for text in texts(500, 1):
        ids = own.encode(text)
        assert own.decode(ids, skip_special_tokens=True) == text
        assert own.decode(ids) == official.decode(ids)


def test_golden_internlm2_is_read_from_its_model_file(shared_dir, tmp_path):
    path = copy(shared_dir, "internvl_internlm2", tmp_path)
    (path / "tokenizer.json").write_text("{")
    assert load_tokenizer(path).encode("<s>") == [1, 1]
    shutil.copyfile(
        shared_dir / "golden/internvl_internlm2/checkpoint/tokenizer.json", path / "tokenizer.json"
    )
    (path / "tokenizer.model").unlink()
    assert load_tokenizer(path).encode("<s>") == [1, 1]


@pytest.mark.parametrize("family", QWEN2_FAMILIES)
def test_golden_qwen2_is_the_same_from_either_form(shared_dir, tmp_path, family):
    path, _, _ = golden(shared_dir, family)
    joined = load_tokenizer(path)
    parts = load_tokenizer(copy(shared_dir, family, tmp_path, without="tokenizer.json"))
    assert isinstance(parts, Qwen2Tokenizer)
    assert parts.get_vocab() == joined.get_vocab()
    assert str(parts.added_tokens_decoder) == str(joined.added_tokens_decoder)
    assert parts.chat_template == joined.chat_template
    marks = list(joined.get_added_vocab())
    for text in texts(500, 2, marks):
        ids = joined.encode(text)
        assert parts.encode(text) == ids
        assert parts.decode(ids) == joined.decode(ids)
    for text in texts(200, 3):
        # Accents that can stand in one character are written so by Qwen2 before anything else.
        text = text.replace("\u0301", "")
        assert joined.decode(joined.encode(text)) == text


# --- What cannot be read -----------------------------------------------------------------------


def test_no_folder_and_no_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a checkpoint"):
        load_tokenizer(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "InternLM2Tokenizer"}')
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model"):
        load_tokenizer(tmp_path)


def test_code_of_the_folder_is_refused(tmp_path):
    config = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("raise SystemExit('this was run')")
    with pytest.raises(ValueError, match=r"'OwnTokenizer' and asks for code.*never runs code"):
        load_tokenizer(tmp_path)


def test_a_class_that_is_not_known_is_read_from_tokenizer_json(shared_dir, tmp_path):
    path = copy(shared_dir, "qwen3_vl", tmp_path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(path).encode("[SEG]") == [374]


def _spoil(proto, **fields):
    for name, value in fields.items():
        part, _, field = name.partition("__")
        setattr(getattr(proto, part), field, value)


@pytest.mark.parametrize(
    ("pieces", "fields", "match"),
    [
        ([*normal("a"), ("a", NORMAL, -3.0)], {}, "a name of its own.*'a'"),
        ([("<unk2>", UNKNOWN, 0.0)], {}, "one unknown piece, got 2"),
        ([("a", NORMAL, float("nan"))], {}, "finite scores"),
        (normal("a"), {"trainer_spec__model_type": 1}, "byte-pair encoding"),
        (normal("a"), {"normalizer_spec__escape_whitespaces": False}, "blanks to be escaped"),
    ],
)
def test_a_model_file_of_another_kind_is_refused(tmp_path, pieces, fields, match):
    path = write_internlm2(tmp_path, pieces)
    proto = import_protobuf().ModelProto()
    proto.ParseFromString((path / "tokenizer.model").read_bytes())
    _spoil(proto, **fields)
    (path / "tokenizer.model").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=match):
        load_tokenizer(path)


def test_a_model_file_cut_between_its_parts_is_refused(tmp_path):
    path = write_internlm2(tmp_path, normal("a"))
    proto = import_protobuf().ModelProto()
    proto.ParseFromString((path / "tokenizer.model").read_bytes())
    proto.ClearField("normalizer_spec")
    (path / "tokenizer.model").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="a part is missing"):
        load_tokenizer(path)


def test_a_missing_byte_is_refused(tmp_path):
    path = write_internlm2(tmp_path, normal("a"), added={3 + 65: "[SEG]"})
    with pytest.raises(ValueError, match="<0x41> has none"):
        load_tokenizer(path)


def test_ids_that_contradict_the_table_are_refused(tmp_path):
    path = write_internlm2(tmp_path, normal("a"), added={FIRST + 7: "[SEG]"})
    with pytest.raises(ValueError, match=rf"'\[SEG\]' should have the id {FIRST + 7}"):
        load_tokenizer(path)


def test_a_cut_merges_file_is_refused(shared_dir, tmp_path):
    path = copy(shared_dir, "qwen3_vl", tmp_path, without="tokenizer.json")
    lines = (path / "merges.txt").read_text().splitlines()
    (path / "merges.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"a line of merges\.txt for every piece"):
        load_tokenizer(path)


def test_a_mark_that_is_no_token_is_refused(shared_dir, tmp_path):
    path = copy(shared_dir, "qwen3_vl", tmp_path)
    text = (path / "tokenizer_config.json").read_text()
    text = text.replace('"eos_token": "<|im_end|>"', '"eos_token": "<|im_emd|>"')
    (path / "tokenizer_config.json").write_text(text)
    with pytest.raises(ValueError, match="is no token of the vocabulary"):
        load_tokenizer(path)
    text = text.replace('"eos_token": "<|im_emd|>"', '"eos_token": null')
    (path / "tokenizer_config.json").write_text(text)
    with pytest.raises(ValueError, match="expected an eos_token"):
        load_tokenizer(path)


@pytest.mark.parametrize("family", ["internvl_internlm2", "qwen2_5_vl", "qwen3_vl"])
def test_damage_is_told_in_one_line(shared_dir, tmp_path, family):
    without = None if family == "qwen3_vl" else "tokenizer.json"
    path = copy(shared_dir, family, tmp_path, without=without)
    rng = random.Random(0)
    read = {"tokenizer.model", "tokenizer_config.json", "merges.txt", "vocab.json"}
    read = {"tokenizer.json", "tokenizer_config.json"} if family == "qwen3_vl" else read
    for file in sorted(path.iterdir()):
        if file.name in read:
            whole = file.read_bytes()
            for damage in range(16):
                file.write_bytes(_damage(whole, rng, cut=damage % 2 == 0))
                message = _message(path)
                assert "\n" not in message
                # A flip may leave a file that can be read; a cut may not.
                assert message or damage % 2
            file.write_bytes(whole)


def _damage(content, rng, *, cut):
    if cut:
        return content[: rng.randrange(len(content) * 19 // 20)]
    flipped = bytearray(content)
    flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _message(path: Path) -> str:
    try:
        load_tokenizer(path)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""
