import pytest

from vasculora.core.io import read_json
from vasculora.recipes.demo import DemoConfig, DemoResult, demo

MARK = ".vasculora-demo"


def result(*, base, frangi, finetuned):
    return DemoResult(
        base={"dice": base},
        frangi={"dice": frangi},
        finetuned={"dice": finetuned},
        training_minutes=1.0,
    )


@pytest.mark.parametrize(
    ("base", "frangi", "finetuned", "failures"),
    [
        (0.60, 0.60, 0.81, []),
        (0.50, 0.50, 0.79, ["Dice at least 0.80"]),
        (0.78, 0.50, 0.85, ["0.08 above the base"]),
        (0.50, 0.78, 0.85, ["0.10 above Frangi"]),
        (
            0.70,
            0.70,
            0.70,
            ["Dice at least 0.80", "0.08 above the base", "0.10 above Frangi"],
        ),
        (0.0, 0.0, float("nan"), ["Dice at least 0.80", "0.08 above the base", "0.10 above Fr"]),
    ],
)
def test_the_gate(base, frangi, finetuned, failures):
    found = result(base=base, frangi=frangi, finetuned=finetuned).failures()
    assert len(found) == len(failures)
    assert all(a.startswith(b) for a, b in zip(found, failures, strict=True))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["thesis.docx"], "holds thesis.docx, which no demo makes"),
        ([MARK, "metrics.json", "thesis.docx"], "holds thesis.docx, which no demo makes"),
        (["config.yaml", "metrics.json"], "holds no earlier demo"),
    ],
)
def test_what_is_no_demo_is_left_alone(names, message, tmp_path, recorder):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        demo(DemoConfig(), tmp_path, report=recorder)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


@pytest.mark.slow
def test_a_demo_replaces_what_an_interrupted_one_left(tmp_path, tiny_base, recorder):
    out = tmp_path / "demo"
    (out / "data" / "images").mkdir(parents=True)
    (out / MARK).touch()
    (out / "data" / "images" / "old.png").touch()
    found = demo(DemoConfig(model=str(tiny_base), num=10, epochs=3), out, report=recorder)
    assert sorted(path.name for path in (out / "data" / "images").iterdir()) == [
        f"{number:04d}.png" for number in range(10)
    ]
    written = read_json(out / "demo.json")
    assert list(written) == ["base", "frangi", "finetuned", "training_minutes"]
    scores = read_json(out / "report" / "evaluation.json")
    assert written["finetuned"] == found.finetuned == scores["at_half"]
    assert recorder.notes[-1] == f"Report: {out / 'report' / 'report.html'}"
    assert (out / "report" / "report.html").is_file()
    metrics = read_json(out / "metrics.json")
    assert found.base["dice"] == pytest.approx(metrics["baseline"]["dice"], abs=1e-6)
    assert len(metrics["epochs"]) == 3
    title, columns, rows = recorder.tables[-1]
    assert title.startswith("2 validation images")
    assert columns == ("", "Dice", "IoU", "sensitivity", "precision")
    assert [row[0] for row in rows] == ["untouched base", "Frangi filter", "fine-tuned"]
    assert found.failures()  # random weights learn nothing in 24 steps
