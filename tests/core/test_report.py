from vasculora.core.report import Report, Silent


def test_silent_fits_where_a_report_is_wanted(capfd):
    report: Report = Silent()
    report.note("a")
    report.warn("b")
    report.line("c")
    report.table("title", ["a"], [["1"]])
    with report.progress(3, "run") as run, report.progress(2, "epoch", unit="steps") as epoch:
        run.advance()
        epoch.advance(2)
        epoch.detail("loss 0.1")
    assert capfd.readouterr() == ("", "")
