from pathlib import Path

import pytest

import vasculora
from vasculora.core.config import dump_config, load_config
from vasculora.losses.objective import ObjectiveConfig
from vasculora.recipes.config import FinetuneConfig, finetune_settings
from vasculora.recipes.pretrain import PretrainConfig

ASSETS = Path(vasculora.__file__).parent / "assets"
CONFIGS = Path(__file__).parents[2] / "configs"
BUILDERS = {
    "presets/seed.yaml": FinetuneConfig,
    "presets/grounding_lora.yaml": FinetuneConfig,
    "presets/light.yaml": FinetuneConfig,
    "presets/official.yaml": FinetuneConfig,
    "nano/finetune.yaml": FinetuneConfig,
    "nano_first.yaml": PretrainConfig,
    "nano.yaml": PretrainConfig,
}


def shipped():
    found = [*ASSETS.rglob("*.yaml"), *CONFIGS.rglob("*.yaml")]
    return sorted(found, key=str)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_file_is_built(path):
    root = ASSETS if path.is_relative_to(ASSETS) else CONFIGS
    cls = BUILDERS[path.relative_to(root).as_posix()]
    values = {"data.path": "somewhere"} if cls is FinetuneConfig else {}
    config = load_config(cls, path, values=values)
    assert load_config(cls, path, values=values) == config


def test_shipped_files_are_found():
    assert {path.name for path in shipped()} >= {"seed.yaml", "light.yaml", "nano.yaml"}


def test_the_seed_s_numbers(tiny_settings):
    config = tiny_settings(preset="seed", trainer__epochs=15)
    assert (config.trainer.epochs, config.trainer.batch_size, config.trainer.accumulation) == (
        15,
        1,
        1,
    )
    assert (config.optim.lr, config.optim.warmup) == (1e-4, 0.1)
    lora = config.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (64, 128, 0.05)
    assert all(name.endswith("_lora") for name in lora.trainable)
    assert (lora.linears, lora.frozen) == ("attention", ("memory_lora",))
    loss = config.objective
    assert (loss.dice, loss.focal, loss.bce, loss.text) == (1.0, 1.0, 0.5, 0.0)
    assert config.prompt.question == "Please segment the {phrase}."
    assert config.prompt.phrase == "blood vessel"


def test_light_opens_the_decoder_and_keeps_the_rest(tiny_settings):
    light, plain = tiny_settings(preset="light"), tiny_settings()
    assert light.lora.trainable == ("mllm_lora", "projector", "mask_decoder")
    same = {"lora": plain.lora}
    assert light.model_copy(update=same) == plain.model_copy(update=same)
    assert (light.lora.rank, light.lora.alpha, light.optim.lr) == (64, 128, 1e-4)


def test_the_official_numbers(tiny_settings):
    config, plain = tiny_settings(preset="official"), tiny_settings()
    lora = config.lora
    assert (lora.rank, lora.alpha, lora.dropout, lora.linears) == (128, 256, 0.05, "all")
    assert set(lora.trainable) == {
        "mllm_lora",
        "projector",
        "mask_decoder",
        "connector",
        "seg_token",
    }
    assert (config.optim.lr, config.optim.weight_decay, config.optim.warmup) == (4e-5, 0.05, 0.05)
    assert config.trainer == plain.trainer
    assert config.trainer.max_grad_norm == 1.0


def test_presets_keep_their_numbers_on_a_base_with_its_own(tmp_path):
    (tmp_path / "finetune.yaml").write_text("lora: {rank: 4}\noptim: {lr: 2e-3}\nseed: 5\n")
    values = {"model": str(tmp_path), "data.path": "somewhere"}
    config = finetune_settings(config_path=None, preset="seed", overrides=(), values=values)
    assert (config.lora.rank, config.optim.lr, config.seed) == (64, 1e-4, 5)


def test_the_later_say_wins(tmp_path):
    base, own = tmp_path / "base", tmp_path / "own.yaml"
    base.mkdir()
    (base / "finetune.yaml").write_text("lora: {rank: 4, alpha: 8, dropout: 0.2}\nseed: 5\n")
    own.write_text("lora: {alpha: 16}\ntrainer: {epochs: 3}\n")
    config = finetune_settings(
        config_path=own,
        preset=None,
        overrides=["trainer.epochs=4", "optim.lr=1e-2"],
        values={"model": str(base), "data.path": "d", "optim.lr": 0.5},
    )
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (4, 16, 0.2)
    assert (config.trainer.epochs, config.optim.lr, config.seed) == (4, 0.5, 5)


def test_settings_survive_being_written(tiny_settings, tmp_path):
    config = tiny_settings(preset="seed", data__group_regex=r"^(\d+)_", prompt__phrase="血管")
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(FinetuneConfig, tmp_path / "config.yaml") == config


def test_an_unknown_preset_names_the_known_ones(tiny_settings):
    known = "grounding_lora, light, official, seed"
    with pytest.raises(ValueError, match=rf"unknown preset 'heavy'. Known: {known}"):
        tiny_settings(preset="heavy")


@pytest.fixture
def base_with_weights(tmp_path):
    """A base that recommends loss weights of its own, as the bundled one does."""
    (tmp_path / "finetune.yaml").write_text("objective: {text: 0.1}\n")
    return {"model": str(tmp_path), "data.path": "somewhere"}


def settings_of(values, *overrides, config_path=None, preset=None):
    return finetune_settings(
        config_path=config_path, preset=preset, overrides=overrides, values=values
    )


@pytest.mark.parametrize("preset", [None, "seed"])
def test_the_official_loss_is_a_word_in_a_file_or_an_override(tmp_path, base_with_weights, preset):
    own = tmp_path / "own.yaml"
    own.write_text("objective: official\n")
    for config in (
        settings_of(base_with_weights, config_path=own, preset=preset),
        settings_of(base_with_weights, "objective=official", preset=preset),
    ):
        assert config.objective == "official"
        own.write_text(dump_config(config))
        assert load_config(FinetuneConfig, own) == config
    back = settings_of(base_with_weights, "objective={dice: 2}", config_path=own)
    assert back.objective == ObjectiveConfig(dice=2)
    assert settings_of(base_with_weights).objective == ObjectiveConfig(text=0.1)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "objective=offical",
            "objective: expected a section of settings or 'official', got 'offical' (str). "
            "Did you mean 'official'?",
        ),
        ("objective.dicee=1", "Did you mean 'objective.dice'?"),
        ("objective.dice=x", "objective.dice: expected a valid number, got 'x' (str)."),
    ],
)
def test_a_wrong_objective_is_told_in_one_line(base_with_weights, override, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        settings_of(base_with_weights, override)
    assert str(caught.value).startswith("override: ")
    assert str(caught.value).endswith(says)
    assert "\n" not in str(caught.value)


def test_the_official_loss_takes_no_area_shares(base_with_weights):
    cure = r"^override: objective 'official' .* got 'area'\. Set target=full, or give objective a"
    with pytest.raises(ValueError, match=cure):
        settings_of(base_with_weights, "objective=official", "target=area")
    assert settings_of(base_with_weights, "target=area").target == "area"
