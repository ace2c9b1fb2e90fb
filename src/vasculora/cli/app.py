"""The command line: every command reads its settings, calls one recipe and shows what it says.

Nothing heavy is imported before a command runs, so that `--help` is quick. Line breaks in a
command's docstring are shown as they are.

Exit codes: 0 done, 1 a check or gate failed, 2 bad input or too little memory, 3 the run cannot
learn, 130 / 143 stopped.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from vasculora.cli.compare import compare
from vasculora.cli.data import data_app
from vasculora.cli.exits import CANNOT_LEARN, FAILED, Guarded
from vasculora.cli.options import (
    BatchSize,
    ConfigFile,
    Data,
    Fold,
    Gpu,
    GroupRegex,
    Hysteresis,
    LearningRate,
    MinSize,
    Model,
    ModelArgument,
    Phrase,
    Preset,
    Set,
    Trainable,
    Tta,
    Window,
    files,
    given,
    names,
)
from vasculora.cli.predict import predict
from vasculora.cli.render import Reporter, make_console, render_json

app = typer.Typer(
    cls=Guarded,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a fault.")] = False,
) -> None:
    """Fine-tune [bold]Sa2VA[/bold] models with LoRA to segment blood vessels from a sentence.

    First steps:
    [bold]vasculora demo[/bold] shows the whole job on drawn angiograms in minutes;
    [bold]vasculora finetune --data FOLDER --out RUN[/bold] does it on yours.
    """


@app.command()
def finetune(
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run; new or empty.")],
    model: Model = None,
    data: Data = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images. \\[default: 15]")
    ] = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    gpu: Gpu = None,
    lora_rank: Annotated[
        int | None, typer.Option(help="Rank of LoRA. \\[default: the base's own, else 64]")
    ] = None,
    lora_alpha: Annotated[
        int | None, typer.Option(help="Scale of LoRA. \\[default: the base's own, else 128]")
    ] = None,
    trainable: Trainable = None,
    preset: Preset = None,
    phrase: Phrase = None,
    split_by: Annotated[
        str | None,
        typer.Option(help="group (never divides a patient) or sorted (by file name; leaks)."),
    ] = None,
    group_regex: GroupRegex = None,
    fold: Fold = None,
    window: Window = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take up the run in --out where it was left.")
    ] = False,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Fine-tune a model on a folder of images and masks.

    DATA holds images/ and masks/ with the same names, or N.png beside
    N_gt.png, or annotations.json. One real batch shows first that what should
    learn can (exit 3 if not) and the untouched model is scored; then every
    epoch trains, scores the model on its own answers and keeps the best
    adapter in RUN.

    [bold]Example[/bold]: vasculora finetune --model nano --data angiograms --out runs/1
    """
    from vasculora.recipes.config import finetune_settings
    from vasculora.recipes.finetune import finetune as run
    from vasculora.recipes.run_folder import find_settings

    settings = finetune_settings(
        config_path=config,
        preset=preset,
        overrides=set_ or (),
        values=given(
            {
                "model": model,
                "data.path": data and str(data),
                "trainer.epochs": epochs,
                "optim.lr": lr,
                "trainer.batch_size": batch_size,
                "gpu": gpu,
                "lora.rank": lora_rank,
                "lora.alpha": lora_alpha,
                "lora.trainable": names(trainable),
                "prompt.phrase": phrase,
                "data.split_by": split_by,
                "data.group_regex": group_regex,
                "data.fold": fold,
                "window.size": window,
            }
        ),
        resumed=find_settings(out) if resume else None,
    )
    run(settings, out, report=Reporter(), resume=resume, command=("vasculora", *sys.argv[1:]))


@app.command()
def audit(
    model: Model = None,
    data: Data = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    gpu: Gpu = None,
    trainable: Trainable = None,
    preset: Preset = None,
    phrase: Phrase = None,
    group_regex: GroupRegex = None,
    fold: Fold = None,
    window: Window = None,
    json: Annotated[
        bool, typer.Option("--json", help="The report as JSON, alone on standard output.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Folder for audit.json, if it is wanted.")
    ] = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Show on one real batch whether a fine-tuning with these settings can learn.

    Which weights the gradient reaches, which it does not and at which line it
    is lost; how far a step moves them; whether the masks heed the sentence.
    Takes what finetune takes, trains nothing and writes nothing but OUT. Exits
    with 3 where something that should learn cannot.

    [bold]Example[/bold]: vasculora audit --model nano --data angiograms
    """
    from vasculora.recipes.audit import audit as run
    from vasculora.recipes.audit import show
    from vasculora.recipes.config import finetune_settings

    settings = finetune_settings(
        config_path=config,
        preset=preset,
        overrides=set_ or (),
        values=given(
            {
                "model": model,
                "data.path": data and str(data),
                "optim.lr": lr,
                "trainer.batch_size": batch_size,
                "gpu": gpu,
                "lora.trainable": names(trainable),
                "prompt.phrase": phrase,
                "data.group_regex": group_regex,
                "data.fold": fold,
                "window.size": window,
            }
        ),
    )
    reporter = Reporter(out=make_console(stderr=True)) if json else Reporter()
    found = run(settings, out, report=reporter)
    if json:
        render_json(found.to_dict())
    else:
        show(found, reporter)
    if not found.ok:
        raise typer.Exit(CANNOT_LEARN)


@app.command()
def inspect(
    model: ModelArgument,
    json: Annotated[
        bool, typer.Option("--json", help="All of it as JSON, alone on standard output.")
    ] = False,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Show what a model's folder is, without reading a weight.

    Family, sizes, weights by block and how they are stored, prompt and tokens,
    and what each preset of finetune would attach and train. Goes by settings,
    index and headers: an official checkpoint without its weight files or its
    tokenizer is shown too, and what is missing is said. Exits with 2 where
    files do not fit together.

    [bold]Example[/bold]: vasculora inspect Sa2VA-InternVL3-8B
    [bold]Example[/bold]: vasculora inspect runs/1 --json
    """
    from vasculora.core.config import load_config
    from vasculora.recipes.inspect import InspectConfig
    from vasculora.recipes.inspect import inspect as run
    from vasculora.recipes.inspection import show

    settings = load_config(
        InspectConfig, *files(config), overrides=set_ or (), values={"model": model}
    )
    found = run(settings)
    if json:
        render_json(found.to_dict())
    else:
        show(found, Reporter())


@app.command()
def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            metavar="DATA", help="Folder of images and masks, or a file that lists them; only read."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="OUT", help="Folder for report.html, evaluation.json and cases.csv."),
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="[bold]nano[/bold], a base model's folder or a run's folder."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="DIR[:SUFFIX]",
            help="Score the masks in this folder, instead of a model: each is called as its image, "
            "with SUFFIX behind.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A model to compare with, case by case."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all.")] = None,
    phrase: Phrase = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability above which a pixel counts. \\[default: what was stored with the "
            "adapter, else 0.5]"
        ),
    ] = None,
    group_regex: GroupRegex = None,
    window: Window = None,
    tta: Tta = None,
    min_size: MinSize = None,
    hysteresis: Hysteresis = None,
    gpu: Gpu = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Score a model's own answers, or given masks, at each image's own size and inside its view.

    Every metric with its 95 % interval by patient, per case and per group
    (docs/metrics.md says what each is), what the threshold does, how far
    probabilities can be believed, and pictures: OUT/report.html. A baseline,
    and what --tta, --min-size and --hysteresis change, are compared case by
    case. Without --split, val is scored where DATA has a split.json, else all
    of it. Choose nothing by looking at test.

    [bold]Example[/bold]: vasculora evaluate runs/1 --data angiograms --out scores
    [bold]Example[/bold]: vasculora evaluate runs/2 --baseline runs/1 --data angiograms --out scores
    [bold]Example[/bold]: vasculora evaluate --against masks:_mask --data angiograms --out scores
    """
    from vasculora.core.config import load_config
    from vasculora.recipes.config import EvaluateConfig
    from vasculora.recipes.evaluate import evaluate_model

    values = {
        "model": model,
        "against": against,
        "baseline": baseline,
        "data": str(data),
        "split": split,
        "phrase": phrase,
        "threshold": threshold,
        "group_regex": group_regex,
        "window": window,
        "answer.tta": tta,
        "answer.min_size": min_size,
        "answer.hysteresis": hysteresis,
        "gpu": gpu,
    }
    settings = load_config(
        EvaluateConfig, *files(config), overrides=set_ or (), values=given(values)
    )
    evaluate_model(settings, out, report=Reporter(), command=("vasculora", *sys.argv[1:]))


app.command()(predict)
app.command()(compare)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the base; new or empty.")],
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Make a small base from drawings only: tokenizer, weights and a card.

    [bold]Example[/bold]: vasculora pretrain --config configs/nano_first.yaml --out bases/first
    """
    from vasculora.core.config import load_config
    from vasculora.recipes.pretrain import PretrainConfig
    from vasculora.recipes.pretrain import pretrain as run

    run(load_config(PretrainConfig, *files(config), overrides=set_ or ()), out, report=Reporter())


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(metavar="RUN", help="Folder of the demo; an earlier one is replaced.")
    ] = Path("runs/demo"),
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Show the whole job in a few minutes, on drawn angiograms, with the bundled base.

    Ends with a table (untouched base, Frangi filter, fine-tuned), a curve and
    overlays in RUN. Exits with 1 where the fine-tuned model does not clear the
    demo's bars.
    """
    from vasculora.core.config import load_config
    from vasculora.recipes.demo import DemoConfig
    from vasculora.recipes.demo import demo as run

    reporter = Reporter()
    result = run(
        load_config(DemoConfig, *files(config), overrides=set_ or ()), out, report=reporter
    )
    for failure in result.failures():
        reporter.warn(f"the demo did not reach its bar: {failure}.")
    if result.failures():
        raise typer.Exit(FAILED)


def main() -> None:
    """Run the command line."""
    app()
