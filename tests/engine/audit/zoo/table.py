"""Run every planted fault and healthy twin, and write what was named into docs/audit.md.

OMP_NUM_THREADS=1 .venv/bin/python -W ignore -m tests.engine.audit.zoo.table
"""

from collections import Counter
from pathlib import Path

import torch
from tests.engine.audit.test_zoo import FAULTS, WELL

from vasculora.engine.audit.kinds import KINDS
from vasculora.engine.audit.probe import audit_gradients

PAGE = Path(__file__).parents[4] / "docs" / "audit.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = "| kind | what happens | planted | kind and line named | healthy twins | named in them |"


def main() -> None:
    planted, named, twins, alarms = Counter(), Counter(), Counter(), Counter()
    for fault in FAULTS:
        planted[fault.kind] += 1
        named[fault.kind] += is_named(fault)
        twins[fault.kind] += len(fault.twins)
        alarms[fault.kind] += sum(map(raises_alarm, fault.twins))
    rows = [
        f"| `{kind}` | {KINDS[kind].what} | {planted[kind]} | {named[kind]} | {twins[kind]} "
        f"| {alarms[kind]} |"
        for kind in KINDS
        if planted[kind]
    ]
    healthy = WELL
    total = f"{planted.total()} | {named.total()} | {twins.total()} | {alarms.total()}"
    table = [HEAD, "|---|---|---|---|---|---|", *rows, f"| all | | {total} |"]
    alarmed = sum(map(raises_alarm, healthy))
    summary = f"Of {len(healthy)} other healthy set-ups, something is named in {alarmed}."
    write(PAGE, "\n".join([*table, "", summary]))


def is_named(fault) -> bool:
    """Return whether a fault is named with its kind, and with its line where it has one."""
    report = audit(fault.build())
    places = fault.right_places()
    return not report.ok and any(place.fits(cut) for place in places for cut in report.cuts)


def raises_alarm(build) -> bool:
    """Return whether anything is named in a healthy set-up."""
    report = audit(build())
    return bool(report.cuts) or not report.ok


def audit(case):
    try:
        return audit_gradients(case.model, case.loss_fn, case.optimizer, case.groups)
    finally:
        torch.set_grad_enabled(True)


def write(page: Path, text: str) -> None:
    """Replace what stands between the marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
