"""The program as a user types it: flags, files, exit codes, the log, and words to bad input."""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from vasculora.cli.app import app
from vasculora.core.io import read_json

PROGRAM = [sys.executable, "-m", "vasculora"]
COMMANDS = ([], ["finetune"], ["audit"], ["evaluate"], ["predict"], ["data"], ["data", "synth"])
COMMANDS += (["pretrain"], ["inspect"], ["data", "import"], ["data", "preview"], ["data", "check"])
LOG_BLOCK = re.compile(
    r"Epoch (\d+)/3\n"
    r"  Train - Loss: \d+\.\d{4}, Dice: [01]\.\d{4}\n"
    r"  Val   - Dice: [01]\.\d{4}, Recall: [01]\.\d{4}\n"
)


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result):
    """The one message of a refusal, without the rich box of a wrong flag."""
    assert result.exit_code == 2, result.output
    assert {line.split(":")[0] for line in result.stdout.splitlines()} <= {"Model", "Data", "Split"}
    assert "Traceback" not in result.stderr
    return result.stderr.replace("\n", " ")


@pytest.fixture(scope="module")
def logged(tmp_path_factory, tiny_base, drawn_dir):
    """A run as the README types it, both streams redirected into one file."""
    folder = tmp_path_factory.mktemp("logged")
    flags = ["--model", tiny_base, "--data", drawn_dir]
    with (folder / "final_training.log").open("w") as log:
        command = ["env", "FORCE_COLOR=1", *PROGRAM, "finetune"]
        done = subprocess.run(
            [*command, *flags, "--out", folder / "run", "--epochs", "3"],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0
    return folder


def test_the_log_reads_as_promised(logged):
    text = (logged / "final_training.log").read_text()
    assert LOG_BLOCK.findall(text) == ["1", "2", "3"]
    assert len(re.findall(r"^Baseline - Dice: [01]\.\d{4}$", text, re.MULTILINE)) == 1
    assert text.count("Val   - Dice:") == 3
    assert text.index("Baseline") < text.index("Epoch 1/3")


def test_a_healthy_log_holds_no_error_and_no_escape_code(logged):
    text = (logged / "final_training.log").read_text()
    assert "error" not in text.lower()
    assert "\x1b" not in text
    assert "\r" not in text


def test_the_command_is_remembered(logged, tiny_base):
    settings = yaml.safe_load((logged / "run" / "config.yaml").read_text())
    assert settings["provenance"]["command"].startswith(f"vasculora finetune --model {tiny_base}")
    assert settings["provenance"]["command"].endswith("--epochs 3")


def test_a_finished_run_is_resumed_by_saying_so(logged):
    result = call("finetune", "--out", logged / "run", "--resume")
    assert result.exit_code == 0, result.output
    assert "All 3 epochs of this run are finished" in result.stdout
    assert "Val   - Dice:" not in result.stdout


def test_a_run_is_evaluated_and_used(logged, tmp_path, drawn_dir):
    out = tmp_path / "scores"
    words = ("evaluate", logged / "run", "--data", drawn_dir, "--split", "val", "--out", out)
    result = call(*words)
    assert result.exit_code == 0, result.output
    val = read_json(logged / "run" / "split.json")["val"]
    assert read_json(out / "evaluation.json")["num_cases"] == len(val) == 2
    image = drawn_dir / "images" / "0003.png"
    masks = tmp_path / "masks"
    result = call("predict", logged / "run", image, "--phrase", "血管", "--out", masks)
    assert result.exit_code == 0, result.output
    assert len(list(masks.iterdir())) == 3


def test_every_flag_reaches_its_setting(tmp_path, tiny_base, drawn_dir):
    own = tmp_path / "own.yaml"
    own.write_text("trainer: {accumulation: 2}\n")
    flags = {
        "--model": tiny_base,
        "--data": drawn_dir,
        "--epochs": 1,
        "--lr": "2e-4",
        "--batch-size": 3,
        "--lora-rank": 4,
        "--lora-alpha": 6,
        "--trainable": "mllm_lora, grounding_lora",
        "--preset": "seed",
        "--phrase": "冠状动脉",
        "--split-by": "sorted",
        "--group-regex": r"(\d)$",
        "--config": own,
        "--set": "data.train_share=0.6",
    }
    out = tmp_path / "run"
    result = call("finetune", "--out", out, *(word for pair in flags.items() for word in pair))
    assert result.exit_code == 0, result.output
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["model"] == str(tiny_base)
    assert settings["trainer"]["epochs"] == 1
    assert settings["trainer"]["batch_size"] == 3
    assert settings["trainer"]["accumulation"] == 2
    assert settings["optim"]["lr"] == 2e-4
    assert (settings["lora"]["rank"], settings["lora"]["alpha"]) == (4, 6)
    assert settings["lora"]["trainable"] == ["mllm_lora", "grounding_lora"]
    assert settings["prompt"]["phrase"] == "冠状动脉"
    assert settings["objective"]["text"] == 0
    assert settings["data"]["split_by"] == "sorted"
    assert settings["data"]["group_regex"] == r"(\d)$"
    assert len(read_json(out / "split.json")["train"]) == 6


def test_a_data_set_is_drawn(tmp_path):
    words = ("data", "synth", tmp_path / "set", "--num", 2, "--style", "fundus", "--seed", 5)
    result = call(*words, "--set", "size=64")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "set" / "images").iterdir())) == 2


@pytest.fixture
def places(tmp_path, tiny_base, drawn_dir):
    """Everything that bad input can be."""
    (tmp_path / "unpaired").mkdir()
    shutil.copy(drawn_dir / "images" / "0000.png", tmp_path / "unpaired" / "a.png")
    for name in ("torn", "cut"):
        shutil.copytree(drawn_dir, tmp_path / name)
    (tmp_path / "torn" / "images" / "0003.png").write_bytes(b"junk")
    small = (tmp_path / "cut" / "masks" / "0004.png").resolve()
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"from PIL import Image as I; I.new('L',(9,7)).save({str(small)!r})",
        ],
        check=True,
    )
    shutil.copytree(drawn_dir, tmp_path / "twice")
    shutil.copy(drawn_dir / "images" / "0002.png", tmp_path / "twice" / "images" / "0007.png")
    parts = {"train": [f"000{i}" for i in range(7)], "val": ["0007", "0008", "0009"]}
    (tmp_path / "twice" / "split.json").write_text(json.dumps(parts))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "bad.yaml").write_text("trainer:\n  epoch: 3\n")
    (tmp_path / "file").touch()
    shutil.copytree(tiny_base, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return {
        "here": tmp_path,
        "base": tiny_base,
        "data": drawn_dir,
        "out": tmp_path / "out",
    }


FINETUNE = "finetune --model {base} --data {data} --out {out}"
BAD = {
    "finetune --model {base} --data {here}/gone --out {out}": "gone: no such folder. Give the",
    "finetune --model {base} --data {here}/file --out {out}": "file: is a file, not a folder.",
    "finetune --model {base} --data {here}/unpaired --out {out}": "no data set recognised.",
    "finetune --model {base} --data {here}/torn --out {out}": "0003.png: cannot be read as an",
    "finetune --model {base} --data {here}/cut --out {out}": "0004: mask is 9x7 but image is 64x64",
    "finetune --model {base} --out {out}": "data needs a value. Give --data,",
    "finetune --model {here}/gone --data {data} --out {out}": "gone: no such model. Give `nano`",
    "finetune --model {data} --data {data} --out {out}": "expected a base model (with config.json)",
    "finetune --model {here}/damaged --data {data} --out {out}": "model.safetensors: is damaged or",
    "finetune --model {base} --data {data} --out {here}/full": "is not empty. Take up the run in",
    "finetune --model {base} --data {data} --out {here}/file": "is not empty. Take up the run in",
    "finetune --model {base} --data {data} --out {here}/file/a": "cannot be made",
    "finetune --model {base} --data {data} --out {data}/run": "lies inside the data folder",
    "finetune --out {out} --resume": "no run to resume (no config.yaml). Check --out.",
    f"{FINETUNE} --gpu 3": "--gpu 3 was asked for, but PyTorch",
    f"{FINETUNE} --preset heavy": "unknown preset 'heavy'. Known: light, official, seed.",
    f"{FINETUNE} --trainable sam": "unknown trainable group sam. Known: mllm_lora,",
    f"{FINETUNE} --split-by date": "data.split_by: expected 'group' or 'sorted', got 'date'",
    f"{FINETUNE} --fold 2-5": "data.fold: expected FOLD/FOLDS, as in 2/5, got '2-5'.",
    f"{FINETUNE} --fold 0/5": "data.fold: there is no fold 0 of 5. Folds count from 1 to 5.",
    f"{FINETUNE} --fold 6/5": "data.fold: there is no fold 6 of 5.",
    f"{FINETUNE} --fold 1/11": "11 folds were asked for, but the 10 images belong to 10 groups",
    f"{FINETUNE} --fold 1/5 --split-by sorted": "data: fold 1/5 is a fold of groups, but split_by",
    "finetune --model {base} --data {here}/twice --out {out}": "0007 (val), correlation 1.00",
    "audit --model {base} --data {data} --fold 2": "data.fold: expected FOLD/FOLDS, as in 2/5",
    f"{FINETUNE} --group-regex x(y)": "the group pattern 'x(y)' finds no group in '0000'",
    f"{FINETUNE} --config {{here}}/bad.yaml": "Did you mean 'trainer.epochs'?",
    f"{FINETUNE} --config {{here}}/gone.yaml": "gone.yaml: no such settings file.",
    f"{FINETUNE} --set optim.rate=1": "unknown key 'optim.rate'. Known: optim.lr,",
    f"{FINETUNE} --set trainer.epochs=many": "trainer.epochs: expected a valid integer, got 'many'",
    f"{FINETUNE} --epochs 0": "trainer.epochs: expected greater than or equal to 1, got 0",
    f"{FINETUNE} --epochs many": "Invalid value for '--epochs'",
    f"{FINETUNE} --epoch 3": "No such option: --epoch",
    "finetune --model {base} --data {data}": "Missing option '--out'",
    "audit --model {here}/gone --data {data}": "gone: no such model. Give `nano`",
    "audit --model {base}": "data needs a value. Give --data,",
    "audit --model {base} --data {here}/cut --json": "0004: mask is 9x7 but image is 64x64",
    "audit --model {base} --data {data} --out {data}/a": "lies inside the data folder",
    "evaluate {base} --data {data} --split dev --out {out}": "expected 'train', 'val', 'test' or",
    "evaluate {base} --data {here}/gone --out {out}": "gone: no such folder.",
    "evaluate {base} --data {data} --out {data}": "lies inside the data folder",
    "predict {base} {here}/gone.png --out {out}": "gone.png: no such image.",
    "predict {here}/gone {here}/cut/images --out {out}": "gone: no such model.",
    "predict {base} {here}/torn/images/0003.png --out {out}": "0003.png: cannot be read as an",
    "data synth {out} --style mri": "style: expected 'xray', 'fundus' or 'octa', got 'mri'",
    "data synth {here}/full": "is not an empty folder",
    "demo --out {here}/full": "holds mine.txt, which no demo makes",
    "pretrain --out {here}/full": "is not empty. Choose another --out",
}


@pytest.mark.parametrize("words", BAD, ids=lambda words: re.sub(r"\{(\w+)\}", r"\1", words))
def test_bad_input_is_one_clear_message(words, places):
    before = {path: path.stat().st_mtime_ns for path in places["data"].rglob("*")}
    message = said(call(*(word.format(**places) for word in words.split(" "))))
    assert BAD[words] in re.sub(r"[│ ]+", " ", message)
    assert {path: path.stat().st_mtime_ns for path in places["data"].rglob("*")} == before


def test_an_adapter_for_another_base_is_refused(logged, tmp_path, tiny_base, drawn_dir):
    base, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(tiny_base, base)
    shutil.copytree(logged / "run", run)
    memory = run / "adapter" / "vasculora.json"
    memory.write_text(memory.read_text().replace(str(tiny_base), str(base)))
    image = drawn_dir / "images" / "0000.png"
    assert call("predict", run, image, "--out", tmp_path / "a").exit_code == 0
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[len(weights) // 2 : len(weights) // 2 + 4096] = bytes(4096)
    (base / "model.safetensors").write_bytes(weights)
    message = said(call("predict", run, image, "--out", tmp_path / "b"))
    assert "the adapter was trained on" in message
    assert "Restore that base" in message


def test_a_run_that_cannot_learn_exits_with_3(tmp_path, tiny_base, drawn_dir):
    flags = ["--set", "objective.dice=0", "--set", "objective.focal=0", "--set", "objective.bce=0"]
    words = ("finetune", "--model", tiny_base, "--data", drawn_dir, "--out", tmp_path / "run")
    result = call(*words, *flags)
    assert result.exit_code == 3
    assert "projector, mask_decoder cannot learn" in result.stderr
    assert "Traceback" not in result.stderr


DEAD = {
    "--lr 0": "    The learning rate optim.lr is 0, so no step moves anything. Give",
    "--set lora.target_modules=nothing": "Change lora.target_modules, or leave it out",
}


@pytest.mark.parametrize("flags", DEAD)
@pytest.mark.parametrize("command", ["finetune", "audit"])
def test_a_dead_configuration_is_told_and_what_to_change(
    command, flags, tmp_path, tiny_base, drawn_dir
):
    words = (command, "--model", tiny_base, "--data", drawn_dir, "--out", tmp_path / "run")
    result = call(*words, *flags.split())
    assert result.exit_code == 3, result.output
    told = result.stderr if command == "finetune" else result.stdout
    assert DEAD[flags] in told
    assert result.output.count(DEAD[flags]) == 1
    assert "Baseline" not in result.stdout
    assert "Traceback" not in result.stderr


def test_an_audit_is_a_table_or_json_alone(tiny_base, drawn_dir):
    words = ("audit", "--model", tiny_base, "--data", drawn_dir)
    result = call(*words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "What learns, on one real batch" in lines
    assert lines[-1] == "Everything that should learn does."
    for flags, code in (((), 0), (("--lr", 0), 3)):
        result = call(*words, "--json", *flags)
        assert result.exit_code == code, result.output
        report = json.loads(result.stdout)
        assert report["ok"] == (code == 0)
        assert [group["name"] for group in report["groups"]][:2] == ["mllm_lora", "projector"]
        assert result.stderr.startswith("Model: ")


def test_a_fault_of_ours_shows_its_traceback_where_asked(tmp_path):
    result = call("--debug", "evaluate", tmp_path / "gone", "--data", "x", "--out", "y")
    assert isinstance(result.exception, FileNotFoundError)


def run_until(line_start, command, **options):
    """Start a program and return it as soon as it writes a line that begins so."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    for line in child.stdout:
        if line.startswith(line_start):
            return child
    raise AssertionError(child.stderr.read())


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [(signal.SIGINT, 130, "stopped."), (signal.SIGTERM, 143, "terminated.")],
)
def test_a_stopped_run_is_usable_and_taken_up(sent, code, word, tmp_path, tiny_base, drawn_dir):
    out = tmp_path / "run"
    flags = ["--model", tiny_base, "--data", drawn_dir, "--out", out, "--epochs", "12"]
    flags += ["--set", "sentinel=off"]  # so little is learnt here that every epoch scores 0
    child = run_until("Epoch 2/12", [*PROGRAM, "finetune", *flags, "--batch-size", "2"])
    child.send_signal(sent)
    rest, err = child.communicate(timeout=120)
    assert child.returncode == code
    assert err.splitlines()[-1] == f"vasculora: {word} What was finished is kept."
    assert "Traceback" not in err
    told = 2 + len(re.findall(r"^Epoch \d+/12$", rest, re.MULTILINE))
    kept = read_json(out / "metrics.json")["epochs"]
    assert len(kept) in (told, told + 1)  # what is told is kept; it may stop in between
    image = drawn_dir / "images" / "0000.png"
    assert call("predict", out, image, "--out", tmp_path / "masks").exit_code == 0
    result = call("finetune", "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    taken_up = int(re.findall(r"Resumed after epoch (\d+) of 12", result.stdout)[0])
    assert taken_up in (len(kept), len(kept) + 1)
    assert read_json(out / "metrics.json")["epochs"][: len(kept)] == kept
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["trainer"]["batch_size"] == 2


@pytest.fixture
def limit_files():
    """Let no file grow beyond a size: what a full disk looks like from inside."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_nothing_is_lost(limit_files, tmp_path, tiny_base, drawn_dir):
    # The checkpoint before the first epoch fits. The one after it, with Adam's memory, does not.
    out = tmp_path / "run"
    flags = ["--model", tiny_base, "--data", drawn_dir, "--out", out, "--epochs", 2]
    limit_files(250_000)
    result = call("finetune", *flags, "--lora-rank", 1, "--trainable", "mllm_lora,mask_decoder")
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    assert "run/resume.pt: cannot be written: File too large. Free some space" in result.stderr
    assert "Val   - Dice:" not in result.stdout
    assert not [path for path in out.rglob("*") if "tmp" in path.name or "draft" in path.name]
    limit_files(resource.RLIM_INFINITY)
    result = call("finetune", "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("Val   - Dice:") == 2


def test_an_adapter_that_does_not_fit_is_told(limit_files, tmp_path, tiny_base, drawn_dir):
    flags = ["--model", tiny_base, "--data", drawn_dir, "--epochs", 1]
    limit_files(325_000)  # between the first checkpoint and the adapter
    result = call("finetune", "--out", tmp_path / "run", *flags)
    assert result.exit_code == 2, result.output
    assert "run/adapter: cannot be written" in result.stderr
    assert "Free some space there" in result.stderr
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_reads_like_documentation(words):
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    if words not in ([], ["data"]):
        assert "Example: vasculora" in result.stdout
    if words not in ([], ["data"], ["data", "import"], ["data", "preview"]):  # without settings
        assert "--config" in result.stdout
        assert "--set" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "[bold]" not in result.stdout


def test_the_demo_explains_itself_too():
    text = call("demo", "--help").stdout
    assert "Exits with 1" in text
    assert "runs/demo" in text
