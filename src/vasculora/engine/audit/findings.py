"""One way to write down a cut."""

from vasculora.engine.audit.kinds import KINDS
from vasculora.engine.audit.places import Place
from vasculora.engine.audit.report import Cut


def cut(
    kind: str,
    place: Place | None = None,
    *,
    module: str | None = None,
    groups: tuple[str, ...] = (),
    detail: str = "",
) -> Cut:
    """Return a cut with its kind's own words, and what is special about this one behind them."""
    what = KINDS[kind].what
    if place is not None and place.caller is not None:
        detail = f"{detail}; called at {place.caller}".removeprefix("; ")
    return Cut(
        kind=kind,
        file=None if place is None else place.file,
        line=None if place is None else place.line,
        function=None if place is None else place.function,
        module=module or None,
        explanation=f"{what} ({detail})" if detail else what,
        cure=KINDS[kind].cure,
        groups=groups,
    )
