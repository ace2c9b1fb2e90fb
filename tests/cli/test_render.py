import io
import re

import pytest

from vasculora.cli.render import Reporter, make_console, render_error
from vasculora.core.report import Report

LONG = "Val   - Dice: 0.7342, " + "x" * 200 + " [bold]kept[/bold] :smile: [/]"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def console(*, terminal):
    made = make_console(terminal=terminal)
    made.file = io.StringIO()
    return made


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def plain(clock):
    return Reporter(console(terminal=False), console(terminal=False), clock)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Reporter(console(terminal=True), console(terminal=True))


def written(reporter):
    return reporter.out.file.getvalue()


def test_a_log_gets_every_line_as_it_is(plain):
    report: Report = plain
    report.line(LONG)
    report.note(LONG)
    assert written(plain) == f"{LONG}\n{LONG}\n"


def test_a_long_line_stays_one_line_on_a_terminal_too(terminal):
    terminal.line(LONG)
    assert written(terminal) == f"{LONG}\n"


def test_forced_colour_does_not_reach_a_log(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    reporter = Reporter()
    reporter.warn("look")
    reporter.table("t", ["a"], [["1"]])
    with reporter.progress(2, "run") as run:
        run.advance()
    out, err = capsys.readouterr()
    assert out == "t\na\n-\n1\n"
    assert err == "Warning: look\n"


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not make_console(terminal=True).is_terminal


def test_warnings_stay_out_of_the_log(plain):
    plain.warn("/home/me/NAME(1)_2_frame_3.jpg is empty")
    assert written(plain) == ""
    assert plain.err.file.getvalue() == "Warning: /home/me/NAME(1)_2_frame_3.jpg is empty\n"


def test_a_plain_table_is_aligned(plain):
    plain.table(
        "Scores",
        ["model", "Dice", "note"],
        [["base", "0.5", "-"], ["fine-tuned", "0.81", "[best]"]],
    )
    assert written(plain).splitlines() == [
        "Scores",
        "model       Dice  note",
        "----------  ----  ------",
        "base         0.5  -",
        "fine-tuned  0.81  [best]",
    ]


def test_a_table_without_rows_is_its_head(plain):
    plain.table("Scores", ["model", "Dice"], [])
    assert written(plain).splitlines() == ["Scores", "model  Dice", "-----  ----"]


def test_a_row_needs_a_cell_a_column(plain):
    with pytest.raises(ValueError, match="longer"):
        plain.table("Scores", ["model", "note"], [["a", "b"], ["a", "b", "c"]])


def test_a_terminal_table_keeps_brackets(terminal):
    terminal.table("Scores [a]", ["model", "Dice"], [["[base]", "0.5"]])
    assert "[base]" in written(terminal)
    assert "Scores [a]" in re.sub(r"\x1b\[[0-9;]*m", "", written(terminal))


def test_a_log_gets_a_sign_of_life_every_half_minute(plain, clock):
    with plain.progress(100, "Run") as run, plain.progress(40, "Epoch 1/2") as epoch:
        for _ in range(8):
            clock.now += 10
            epoch.detail("loss 0.25")
            epoch.advance(5)
            run.advance(5)
    # 40 s in: 15 of 40 took 30 s, so 25 more take 50; the run is one advance behind.
    assert written(plain).splitlines() == [
        "Epoch 1/2: 15/40 images, 0.5 images/s, 0:50 left, loss 0.25"
        " | Run: 10/100 images, 0.3 images/s, 4:30 left",
        "Epoch 1/2: 30/40 images, 0.5 images/s, 0:20 left, loss 0.25"
        " | Run: 25/100 images, 0.4 images/s, 3:00 left",
    ]


def test_a_quick_stretch_leaves_no_line(plain, clock):
    for _ in range(20):
        with plain.progress(10, "quick") as quick:
            clock.now += 20
            quick.advance(10)
    assert written(plain) == ""


def test_short_stretches_of_a_long_run_leave_lines(plain, clock):
    with plain.progress(40, "Run") as run:
        for epoch in range(4):
            with plain.progress(10, f"Epoch {epoch + 1}/4") as stretch:
                clock.now += 20
                stretch.advance(10)
                run.advance(10)
    assert [line.partition(":")[0] for line in written(plain).splitlines()] == [
        "Epoch 2/4",
        "Epoch 4/4",
    ]


def test_slow_work_is_counted_in_seconds_each(plain, clock):
    with plain.progress(200, "slow", unit="cases") as slow:
        clock.now += 3600
        slow.advance(100)
    assert written(plain) == "slow: 100/200 cases, 36 s each, 1:00:00 left\n"


def test_a_terminal_gets_bars_that_leave_nothing_behind(terminal):
    with terminal.progress(4, "Run [x]") as run:
        with terminal.progress(2, "Epoch 1/2", unit="steps") as epoch:
            epoch.advance()
            epoch.detail("loss 0.25")
            run.advance()
            terminal._bars.refresh()
            terminal.line("  Val   - Dice: 0.5000, Recall: 0.5000")
        terminal.line("between epochs")
    shown = written(terminal)
    assert terminal._bars is None
    assert "1/2 steps" in shown
    assert "loss 0.25" in shown
    assert "Run [x]" in shown
    assert "  Val   - Dice: 0.5000, Recall: 0.5000\n" in shown
    assert "1/4 images" in shown
    assert "Epoch" not in shown.partition("between epochs")[2]


def test_bars_fit_a_narrow_terminal(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    terminal.out = console(terminal=True)
    with terminal.progress(2, "Epoch 1/15") as epoch:
        epoch.detail("loss 0.25 " * 9)
        terminal._bars.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written(terminal))
    assert max(map(len, re.split(r"[\r\n]", text))) <= 60
    assert "…" in text


def test_bars_end_when_the_work_fails(terminal):
    with pytest.raises(KeyError), terminal.progress(2, "Run"), terminal.progress(2, "Epoch"):
        raise KeyError
    assert terminal._bars is None


def test_plain_progress_ends_when_the_work_fails(plain):
    with pytest.raises(KeyError), plain.progress(2, "Run"):
        raise KeyError
    assert plain._plain == []


def test_an_error_is_one_message_on_standard_error(capsys):
    render_error("no pairs in [here]. " + "x" * 100)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "vasculora: no pairs in [here]. " + "x" * 100 + "\n"
