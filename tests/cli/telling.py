"""Runs the program on data and checks what it says: one message, never a traceback."""

import re
from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from vasculora.cli.app import app


def run(*words: object) -> Result:
    """Run the program."""
    return CliRunner().invoke(app, [str(word) for word in words])


def refusal(result: Result) -> str:
    """Return the one message of a refusal, without the rich box of a wrong flag."""
    assert result.exit_code == 2, result.output
    assert {line.split(":")[0] for line in result.stdout.splitlines()} <= {"Model", "Data", "Split"}
    assert "Traceback" not in result.stderr
    return result.stderr.replace("\n", " ")


def call(*words: object) -> tuple[int, str]:
    """Run the program; return its exit code and all it says, in one line."""
    result = run(*words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def import_(data: Path) -> tuple[int, str]:
    return call("data", "import", data, "--out", data.parent / f"{data.name}-out.jsonl")


def words_of(data: Path, out: Path) -> list[str]:
    """Return the words of a command that opens every image."""
    return ["evaluate", "nano", "--data", str(data), "--split", "all", "--out", str(out)]


def evaluate(data: Path, out: Path) -> tuple[int, str]:
    return call(*words_of(data, out))


def check(told: tuple[int, str], code: int, words: tuple[str, ...]) -> None:
    assert told[0] == code, told
    for word in words:
        assert word in told[1], (word, told[1])
