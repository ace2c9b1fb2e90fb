"""Ways through the steps of a pass: from a weight to the loss and back."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from vasculora.engine.audit.steps import Step


class Walks:
    """The steps of a pass as a graph.

    Args:
        steps: All of them.
        ends: Those that the loss is, and whether it carries their graph.
    """

    def __init__(self, steps: Sequence[Step], ends: Mapping[Step, bool]) -> None:
        self.ends = ends
        self._children: dict[Step, list[tuple[Step, bool]]] = {}
        for step in steps:
            for parent, live in step.parents:
                self._children.setdefault(parent, []).append((step, live))
        self.towards_loss = _reachable(ends, lambda step: (p for p, _ in step.parents))
        self._in_numbers = _reachable(
            ends, lambda step: (p for p, _ in step.parents if not p.is_discrete)
        )

    def descendants(self, root: Step) -> set[Step]:
        """Return everything made from a step, itself included."""
        return _reachable((root,), lambda step: (c for c, _ in self._children.get(step, ())))

    def children(self, step: Step) -> list[Step]:
        """Return what is made from a step at once."""
        return [child for child, _ in self._children.get(step, ())]

    def onward(self, step: Step) -> list[Step]:
        """Return what is made from a step on the way to the loss."""
        return [child for child in self.children(step) if child in self.towards_loss]

    def live(self, root: Step) -> set[Step]:
        """Return the steps that a step reaches without leaving the graph.

        Inside a custom function there is none yet; it is passed through, and what comes out of it
        tells.
        """
        seen, waiting = {root}, [root]
        while waiting:
            step = waiting.pop()
            for child, on in self._children.get(step, ()):
                passes = on or (step.within and child.within)
                if passes and (child.live or child.within) and child not in seen:
                    seen.add(child)
                    waiting.append(child)
        return seen

    def exits(self, live: set[Step]) -> Iterator[tuple[Step, Step, bool]]:
        """Yield the pairs of steps between which the graph ends on the way to the loss.

        The third value tells whether the first carried the graph when the second was made. Where
        the loss itself is a step without its graph, both are that step. A way through choices
        (tokens, indices, masks) counts only where there is no other.
        """
        yield from self._exits(live, self._in_numbers) or self._exits(live, self.towards_loss)

    def _exits(self, live: set[Step], towards_loss: set[Step]) -> list[tuple[Step, Step, bool]]:
        found = []
        for step in sorted(live, key=lambda s: s.index):
            for child, on in self._children.get(step, ()):
                if child not in live and child in towards_loss:
                    found.append((step, child, on))
            if self.ends.get(step) is False:
                found.append((step, step, False))
        return found

    def exits_to(self, goal: Step, live: set[Step]) -> list[tuple[Step, Step, bool]]:
        """Return the same on the way to a step of which it is not seen how the loss is made."""
        before = _reachable((goal,), lambda step: (p for p, _ in step.parents))
        return self._exits(live, before)

    def frontier(
        self, root: Step, is_bad: Callable[[Step], bool], *, spreads: bool = False
    ) -> list[tuple[Step, Step]]:
        """Return the pairs of steps between which a gradient, on its way back, goes bad.

        Args:
            root: Where the bad gradient arrives.
            is_bad: Tells a step with a bad gradient.
            spreads: Whether one bad gradient among several makes their sum bad (not-a-number does;
                zero does not).
        """
        live = self.live(root) & self.towards_loss
        found, seen, waiting = [], {root}, [root]
        while waiting:
            step = waiting.pop()
            children = [c for c, _ in self._children.get(step, ()) if c in live]
            bad = [c for c in children if is_bad(c) or (c.within and not c.live)]
            if not (spreads and bad):
                found += [(step, child) for child in children if child not in bad]
            for child in bad:
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
        return found

    def next_towards_loss(self, step: Step, fits: Callable[[Step], bool]) -> Step | None:
        """Return the nearest step after this one that fits, on the way to the loss."""
        waiting, seen = self.onward(step), {step}
        while waiting:
            child = waiting.pop(0)
            if fits(child):
                return child
            if child not in seen:
                seen.add(child)
                waiting += self.onward(child)
        return None

    def first_not_finite(self) -> list[Step]:
        """Return the steps on the way to the loss at which infinity or not-a-number appears."""
        bad = {step for step in self.towards_loss if not step.is_finite}
        origins = (s for s in bad if not any(parent in bad for parent, _ in s.parents))
        return sorted(origins, key=lambda step: step.index)


def _reachable(starts: Iterable[Step], onward: Callable[[Step], Iterable[Step]]) -> set[Step]:
    waiting = list(starts)
    seen = set(waiting)
    while waiting:
        for step in onward(waiting.pop()):
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return seen
