"""Score a base on real images it has learnt nothing from, and write it."""

import argparse
import json
from pathlib import Path

from benchmarks.learning.learners import NAMES, case_scores
from benchmarks.learning.sets import SETS, read_set
from benchmarks.results import write_result

from vasculora.metrics.statistics import interval
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import open_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds data/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--base", default="nano", help="nano, or a base's folder")
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    opened = open_model(args.base)
    rows: dict[str, object] = {"base": Path(args.base).name, "fingerprint": opened.fingerprint}
    for name in args.sets:
        records = read_set(name, args.shared)
        if SETS[name].num_folds == 1:  # decisions were made on the training part
            records = tuple(r for r in records if r.case_id.startswith("val/"))
        cases = case_scores(Predictor.of(opened), records, batch_size=8)
        groups = [str(case["group"]) for case in cases]
        scores = {n: [float(str(case[n])) for case in cases] for n in NAMES}
        rows[name] = {n: interval(values, groups).to_dict() for n, values in scores.items()}
        print(name, len(cases), json.dumps(rows[name]), flush=True)
    write_result(__file__, args.label, rows, suffix="_untouched")


if __name__ == "__main__":
    main()
