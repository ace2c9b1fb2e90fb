from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from vasculora.core.config import dump_config, load_config

STRICT = ConfigDict(frozen=True, extra="forbid")


class Lora(BaseModel):
    model_config = STRICT
    rank: int = Field(default=64, gt=0)
    dropout: float = 0.05


class Train(BaseModel):
    model_config = STRICT
    lr: float = 1e-4
    epochs: int = 15
    kind: Literal["cosine", "linear"] = "cosine"
    lora: Lora = Lora()
    extra_lora: Lora | None = None
    parts: tuple[str, ...] = ("mllm_lora", "projector")


class Weights(BaseModel):
    model_config = STRICT
    dice: float = Field(default=1.0, ge=0)
    bce: float = 0.5


class Tree(BaseModel):
    model_config = STRICT
    train: Train = Train()
    loss: Weights | Literal["official", "none"] = Weights()
    data: Path | None = None
    phrase: str = "blood vessel"
    weights: dict[str, float] = {"dice": 1.0}
    resume: bool = False

    @field_validator("phrase")
    @classmethod
    def not_empty(cls, phrase: str) -> str:
        if not phrase:
            raise ValueError("a phrase has at least one word.")
        return phrase


def write(folder, text):
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message(*paths, overrides=()):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - callers look at the text
        load_config(Tree, *paths, overrides=overrides)
    return str(caught.value)


def test_without_anything_it_is_the_defaults():
    assert load_config(Tree) == Tree()


def test_a_file_holds_differences_only(tmp_path):
    tree = load_config(Tree, write(tmp_path, "train:\n  lora: {rank: 8}\ndata: pictures/xray\n"))
    assert tree.train.lora == Lora(rank=8)
    assert tree.train.epochs == 15
    assert tree.data == Path("pictures/xray")


@pytest.mark.parametrize("text", ["", "# only a remark\n"])
def test_an_empty_file_is_the_defaults(tmp_path, text):
    assert load_config(Tree, write(tmp_path, text)) == Tree()


def test_overrides_win_and_the_later_of_two(tmp_path):
    path = write(tmp_path, "train: {epochs: 3, lr: 0.1}\n")
    tree = load_config(
        Tree, path, overrides=["train.epochs=4", "train.epochs=5", "train.lora.rank=2"]
    )
    assert (tree.train.epochs, tree.train.lr, tree.train.lora.rank) == (5, 0.1, 2)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), ("3E5", 3e5), ("1.5e-3", 1.5e-3), ("2", 2.0), (".5", 0.5), ("-1.e2", -100.0)],
)
def test_numbers_are_numbers(tmp_path, text, number):
    assert load_config(Tree, overrides=[f"train.lr={text}"]).train.lr == number
    assert load_config(Tree, write(tmp_path, f"train: {{lr: {text}}}")).train.lr == number


def test_override_values_are_typed_as_in_yaml():
    tree = load_config(
        Tree,
        overrides=[
            "train.parts=[projector]",
            "resume=true",
            "data=null",
            "phrase=no",
            "weights={bce: 1e-1}",
        ],
    )
    assert tree.train.parts == ("projector",)
    assert tree.resume is True
    assert tree.data is None
    assert tree.phrase == "no"
    assert tree.weights == {"bce": 0.1}


def test_an_override_value_may_hold_an_equals_sign_and_a_colon():
    assert load_config(Tree, overrides=["phrase=a=b c:d"]).phrase == "a=b c:d"


def test_an_override_opens_an_optional_section():
    assert load_config(Tree, overrides=["train.extra_lora.rank=4"]).train.extra_lora == Lora(rank=4)


def test_an_unknown_key_names_its_path_the_nearest_and_the_known(tmp_path):
    path = write(tmp_path, "train:\n  epoch: 3\n")
    assert message(path) == (
        f"{path}: unknown key 'train.epoch'. Known: train.epochs, train.extra_lora, train.kind, "
        "train.lora, train.lr, train.parts. Did you mean 'train.epochs'?"
    )


def test_an_unknown_key_in_a_nested_and_in_an_optional_section():
    assert "Did you mean 'train.lora.rank'?" in message(overrides=["train.lora.ranks=3"])
    assert "Did you mean 'train.extra_lora.rank'?" in message(overrides=["train.extra_lora.rnk=3"])


def test_a_key_in_the_wrong_section_is_pointed_to_its_own():
    assert message(overrides=["lr=1e-3"]).endswith("Did you mean 'train.lr'?")


def test_a_key_like_no_other_gets_no_suggestion():
    text = message(overrides=["zzz=1"])
    assert text.startswith(
        "override: unknown key 'zzz'. Known: data, loss, phrase, resume, train, weights."
    )
    assert "Did you mean" not in text


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs=many", "train.epochs: expected a valid integer, got 'many' (str)."),
        ("train.epochs=1.5", "train.epochs: expected a valid integer, got 1.5 (float)."),
        ("train.epochs='3'", "train.epochs: expected a valid integer, got '3' (str)."),
        ("train.lr=fast", "train.lr: expected a valid number, got 'fast' (str)."),
        ("train.lora.rank=0", "train.lora.rank: expected greater than 0, got 0 (int)."),
        ("train.kind=step", "train.kind: expected 'cosine' or 'linear', got 'step' (str)."),
        ("train.lora=7", "train.lora: expected a section of settings, got 7 (int)."),
        ("resume=yes", "resume: expected a valid boolean, got 'yes' (str)."),
        ("phrase=3", "phrase: expected a valid string, got 3 (int)."),
        ("phrase=''", "phrase: a phrase has at least one word."),
        ("weights.dice=x", "weights.dice: expected a valid number, got 'x' (str)."),
    ],
)
def test_a_wrong_value_says_where_what_and_what_came(override, says):
    assert message(overrides=[override]) == f"override: {says}"


def test_every_fault_has_its_line_and_its_place(tmp_path):
    path = write(tmp_path, "train: {lr: fast}\n")
    assert message(path) == f"{path}: train.lr: expected a valid number, got 'fast' (str)."
    assert message(overrides=["resume=maybe", "train.lr=x"]).splitlines() == [
        "override: train.lr: expected a valid number, got 'x' (str).",
        "override: resume: expected a valid boolean, got 'maybe' (str).",
    ]


@pytest.mark.parametrize("override", ["train.lr", "=3", "train..lr=3", ".lr=1"])
def test_an_override_is_key_and_value(override):
    assert message(overrides=[override]).startswith(f"override '{override}': expected KEY=VALUE")


def test_an_override_cannot_enter_a_value():
    assert message(overrides=["phrase=artery", "phrase.x=1"]) == (
        "override 'phrase.x=1': 'phrase' holds 'artery' (str), not a section. Set 'phrase' as a "
        "whole, or leave this out."
    )


def test_a_word_replaces_a_section_and_a_section_a_word(tmp_path):
    section, word = tmp_path / "section.yaml", tmp_path / "word.yaml"
    section.write_text("loss: {bce: 0.1}\n")
    word.write_text("loss: official\n")
    assert load_config(Tree, section, word).loss == "official"
    assert load_config(Tree, word, section).loss == Weights(bce=0.1)
    assert load_config(Tree, section, overrides=["loss=official"]).loss == "official"
    assert load_config(Tree, word, overrides=["loss={dice: 2}"]).loss == Weights(dice=2)
    assert load_config(Tree, section, overrides=["loss.dice=2"]).loss == Weights(dice=2, bce=0.1)
    assert load_config(Tree, section, values={"loss": "official"}).loss == "official"
    assert "'loss' holds 'official' (str), not a section" in message(
        word, overrides=["loss.dice=2"]
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "loss=offical",
            "loss: expected a section of settings or 'official' or 'none', got 'offical' (str). "
            "Did you mean 'official'?",
        ),
        (
            "loss=3",
            "loss: expected a section of settings or 'official' or 'none', got 3 (int).",
        ),
        ("loss={dice: x}", "loss.dice: expected a valid number, got 'x' (str)."),
        ("loss.dice=-1", "loss.dice: expected greater than or equal to 0, got -1 (int)."),
        (
            "loss.dicee=1",
            "unknown key 'loss.dicee'. Known: loss.bce, loss.dice. Did you mean 'loss.dice'?",
        ),
        (
            "train.kind=linea",
            "train.kind: expected 'cosine' or 'linear', got 'linea' (str). Did you mean 'linear'?",
        ),
    ],
)
def test_a_value_of_several_kinds_is_told_once(override, says):
    assert message(overrides=[override]) == f"override: {says}"


def test_a_section_of_several_kinds_may_be_whole_only_at_the_end(tmp_path):
    class Own(BaseModel):
        model_config = STRICT
        dice: float
        bce: float

    class Needs(BaseModel):
        model_config = STRICT
        loss: Own | Literal["official"]

    path = write(tmp_path, "loss: {dice: 1.0}\n")
    assert load_config(Needs, path, overrides=["loss.bce=2"]).loss == Own(dice=1, bce=2)
    with pytest.raises(ValueError, match=r"^override: loss\.bce needs a value\."):
        load_config(Needs, path)


def test_a_broken_override_value():
    assert "not valid YAML" in message(overrides=["train.parts=[a"])


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml: no such settings file"):
        load_config(Tree, tmp_path / "absent.yaml")


def test_a_broken_file_names_the_line(tmp_path):
    path = write(tmp_path, "phrase: artery\ntrain: [1\n")
    assert message(path).startswith(f"{path}:3:1: not valid YAML: ")


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert "not valid YAML" in message(path)
    assert "expected 'key: value' lines, got ['a'] (list)" in message(write(tmp_path, "- a\n"))


def test_a_key_given_twice_is_refused(tmp_path):
    path = write(tmp_path, "train:\n  lr: 1\n  lr: 2\n")
    assert f"{path}:3:3: not valid YAML: key 'lr' is given twice" in message(path)


def test_a_dump_holds_every_field_and_reads_back(tmp_path):
    tree = load_config(
        Tree,
        overrides=[
            "train.lr=1e-5",
            "phrase='1e-4'",
            "data=a/b",
            "train.lora.rank=3",
            "weights={no: 1}",
        ],
    )
    text = dump_config(tree)
    assert text.index("train:") < text.index("lr: 1.0e-05") < text.index("phrase: '1e-4'")
    assert "dropout: 0.05" in text
    assert load_config(Tree, write(tmp_path, text)) == tree
    assert load_config(Tree, write(tmp_path, dump_config(Tree()))) == Tree()


def test_files_lie_on_top_of_each_other_and_plain_values_on_top_of_all(tmp_path):
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text("train: {lr: 1e-3, lora: {rank: 8}}\nphrase: artery\n")
    above.write_text("train: {lora: {dropout: 0.1}}\n")
    tree = load_config(
        Tree,
        below,
        above,
        overrides=["train.lr=1e-2"],
        values={"train.epochs": 3, "phrase": "a: b"},
    )
    assert (tree.train.lr, tree.train.epochs, tree.phrase) == (0.01, 3, "a: b")
    assert tree.train.lora == Lora(rank=8, dropout=0.1)


def test_a_required_value_may_stand_in_any_layer(tmp_path):
    class Needs(BaseModel):
        model_config = STRICT
        data: str
        lr: float = 1.0

    path = write(tmp_path, "lr: 2.0\n")
    assert load_config(Needs, path, values={"data": "x"}) == Needs(data="x", lr=2.0)
    with pytest.raises(ValueError, match="data needs a value"):
        load_config(Needs, path)
