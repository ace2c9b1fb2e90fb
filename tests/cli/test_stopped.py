"""A run that ends before its time, by a signal or a full disk: what is kept, and how it goes on."""

import re
import resource
import signal
import subprocess
import sys

import pytest
import yaml
from tests.cli.telling import run

from vasculora.core.io import read_json

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "vasculora"]


def run_until(line_start, command, **options):
    """Start a program and return it as soon as it writes a line that begins so."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    for line in child.stdout:
        if line.startswith(line_start):
            return child
    raise AssertionError(child.stderr.read())


def stopped_by(sent, out, *, base, data):
    """Stop a run after its second epoch; return its exit code, its last word and what it kept."""
    flags = ["--model", base, "--data", data, "--out", out, "--epochs", "8"]
    flags += ["--set", "sentinel=off"]  # so little is learnt here that every epoch scores 0
    child = run_until("Epoch 2/8", [*PROGRAM, "finetune", *flags, "--batch-size", "2"])
    child.send_signal(sent)
    rest, err = child.communicate(timeout=120)
    assert "Traceback" not in err
    told = 2 + len(re.findall(r"^Epoch \d+/8$", rest, re.MULTILINE))
    kept = read_json(out / "metrics.json")["epochs"]
    assert len(kept) in (told, told + 1)  # what is told is kept; it may stop in between
    return child.returncode, err.splitlines()[-1], kept


def test_a_terminated_run_is_usable(tmp_path, tiny_base, drawn_dir):
    out = tmp_path / "run"
    code, word, _ = stopped_by(signal.SIGTERM, out, base=tiny_base, data=drawn_dir)
    assert (code, word) == (143, "vasculora: terminated. What was finished is kept.")
    image = drawn_dir / "images" / "0000.png"
    assert run("predict", out, image, "--out", tmp_path / "masks").exit_code == 0


def test_a_stopped_run_is_taken_up(tmp_path, tiny_base, drawn_dir):
    out = tmp_path / "run"
    code, word, kept = stopped_by(signal.SIGINT, out, base=tiny_base, data=drawn_dir)
    assert (code, word) == (130, "vasculora: stopped. What was finished is kept.")
    result = run("finetune", "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    taken_up = int(re.findall(r"Resumed after epoch (\d+) of 8", result.stdout)[0])
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
    result = run("finetune", *flags, "--lora-rank", 1, "--trainable", "mllm_lora,mask_decoder")
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    assert "run/resume.pt: cannot be written: File too large. Free some space" in result.stderr
    assert "Val   - Dice:" not in result.stdout
    assert not [path for path in out.rglob("*") if "tmp" in path.name or "draft" in path.name]
    limit_files(resource.RLIM_INFINITY)
    result = run("finetune", "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("Val   - Dice:") == 2


def test_an_adapter_that_does_not_fit_is_told(limit_files, tmp_path, tiny_base, drawn_dir):
    flags = ["--model", tiny_base, "--data", drawn_dir, "--epochs", 1]
    limit_files(325_000)  # between the first checkpoint and the adapter
    result = run("finetune", "--out", tmp_path / "run", *flags)
    assert result.exit_code == 2, result.output
    assert "run/adapter: cannot be written" in result.stderr
    assert "Free some space there" in result.stderr
    assert not list((tmp_path / "run").glob(".*"))
