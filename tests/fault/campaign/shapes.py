"""The load: which workflows a campaign has, a pure function of a seed and a workflow's number."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from tests.fault.campaign.plan import Act, Plan, Step, Touch

_BRANCHING: Final = 0.45
"""The share of the workflows that branch, grow, or run others."""


@lru_cache(maxsize=20_000)
def plan(seed: int, number: int) -> Plan:
    """The workflow of this number."""
    dice = random.Random(f"{seed}/{number}")
    outside: tuple[Step, ...] = ()
    if dice.random() < _BRANCHING:
        touch, steps, outside = _branching(dice)
    else:
        touch, steps = _plain(dice)
    lone = touch is Touch.NONE and all(step.act is not Act.AWAIT for step in steps)
    return Plan(
        number=number,
        touch=touch,
        # Clients that act on it know only of acknowledged inserts.
        keyed=not (lone and dice.random() < 0.2),
        steps={step.name: step for step in steps},
        delay=dice.choice((0, 0.05, 0.2, 1.0)),
        outside=outside,
    )


def plan_of(seed: int, context: Mapping[str, Any]) -> Plan:
    """The plan of the workflow that has this context."""
    one = plan(seed, context["number"])
    return one.child(context["parent_step"]) if "parent_step" in context else one


def _plain(dice: random.Random) -> tuple[Touch, list[Step]]:
    """A graph that stays as it was inserted, and in which every step is run or cancelled."""
    touches = [touch for touch in Touch if touch is not Touch.APPEND]
    touch = dice.choices(touches, (60, 12, 6, 7, 8, 7))[0]
    one_root = touch in (Touch.REOPEN, Touch.RERUN)
    shape = dice.choice(_ONE_ROOT if one_root else _SHAPES)
    if touch is Touch.NONE and dice.random() < 0.02:
        shape = _wide
    steps = [_timed(dice, replace(step, act=_act(dice, touch))) for step in shape(dice)]
    if touch in (Touch.SKIP, Touch.MEND):
        place = dice.randrange(len(steps))
        act = Act.FAIL if touch is Touch.SKIP else Act.MEND
        steps[place] = replace(steps[place], act=act)
    return touch, steps


def _branching(dice: random.Random) -> tuple[Touch, list[Step], tuple[Step, ...]]:
    """A graph that branches, grows or runs other workflows; and what is appended from outside."""
    shape = dice.choice(_BRANCHING_SHAPES)
    touch = dice.choices((Touch.NONE, Touch.CANCEL, Touch.REOPEN, Touch.RERUN), (55, 25, 8, 12))[0]
    steps = [_timed(dice, step) for step in shape(dice)]
    if dice.random() < 0.3:
        ending = tuple((step.name, "continue") for step in steps)
        steps.append(Step("always", ending, act=_some(dice), always=True))
    if touch is not Touch.NONE or dice.random() < 0.7:
        return touch, steps, ()
    steps.append(Step("hold", (), act=Act.HOLD))
    anywhere = dice.choice(steps).name
    outside = (
        _growing(dice, "o0", (), depth=1),
        Step("o1", ((anywhere, "continue"), ("o0", "cancel")), act=_some(dice)),
        Step("o2", (("hold", "cancel"), ("o0", "on_failure"))),
    )
    return Touch.APPEND, steps, outside


def _act(dice: random.Random, touch: Touch) -> Act:
    """Chosen so that a step for which an operator waits is reached, and no signal comes a second
    time."""
    if touch in (Touch.SKIP, Touch.MEND):
        return dice.choices((Act.COMPLETE, Act.RETRY, Act.AWAIT), (80, 10, 10))[0]
    if touch in (Touch.REOPEN, Touch.RERUN):
        return dice.choices((Act.COMPLETE, Act.RETRY, Act.EXPIRE), (85, 10, 5))[0]
    acts = (Act.COMPLETE, Act.RETRY, Act.FAIL, Act.DISCARD, Act.CANCEL, Act.AWAIT, Act.EXPIRE)
    return dice.choices(acts, (70, 9, 3, 2, 2, 10, 4))[0]


def _some(dice: random.Random) -> Act:
    """An end of any kind, whatever an operator does."""
    acts = (Act.COMPLETE, Act.RETRY, Act.FAIL, Act.DISCARD, Act.CANCEL, Act.EXPIRE)
    return dice.choices((*acts, Act.SKIP, Act.SKIP_BRANCH), (70, 8, 4, 3, 3, 4, 4, 4))[0]


def _timed(dice: random.Random, step: Step) -> Step:
    return replace(step, seconds=dice.choice((0, 0, 0.005, 0.02)))


# --- plain shapes, each with its steps in topological order


def _edge(dice: random.Random, parent: str) -> tuple[str, str]:
    return parent, "continue" if dice.random() < 0.2 else "cancel"


def _chain(dice: random.Random) -> list[Step]:
    names = [f"s{n}" for n in range(dice.randint(2, 8))]
    links = pairwise(names)
    return [Step(names[0], ()), *(Step(b, (_edge(dice, a),)) for a, b in links)]


def _fan_out(dice: random.Random) -> list[Step]:
    children = [Step(f"c{n}", (_edge(dice, "root"),)) for n in range(dice.randint(3, 12))]
    return [Step("root", ()), *children]


def _fan_in(dice: random.Random) -> list[Step]:
    parents = [f"p{n}" for n in range(dice.randint(3, 12))]
    last = Step("last", tuple(_edge(dice, parent) for parent in parents))
    return [*(Step(parent, ()) for parent in parents), last]


def _diamond(dice: random.Random) -> list[Step]:
    middle = [Step(name, (_edge(dice, "a"),)) for name in "bcd"]
    return [Step("a", ()), *middle, Step("e", tuple(_edge(dice, name) for name in "bcd"))]


def _mesh(dice: random.Random) -> list[Step]:
    names = [f"m{n}" for n in range(dice.randint(5, 12))]
    steps = []
    for place, name in enumerate(names):
        parents = dice.sample(names[:place], min(place, dice.randint(0, 3)))
        steps.append(Step(name, tuple(_edge(dice, parent) for parent in parents)))
    return steps


def _wide(dice: random.Random) -> list[Step]:
    """Large enough to be released, and perhaps cancelled, in slices."""
    children = [Step(f"c{n}", (("root", "cancel"),)) for n in range(300)]
    last = Step("last", tuple((child.name, "continue") for child in children))
    return [Step("root", ()), *children, last]


_ONE_ROOT: Final[tuple[Callable[[random.Random], list[Step]], ...]] = (_chain, _fan_out, _diamond)
_SHAPES: Final = (*_ONE_ROOT, _fan_in, _mesh)


# --- shapes that branch, grow or run others; all of them have one root


def _growing(
    dice: random.Random, name: str, parents: tuple[tuple[str, str], ...], *, depth: int
) -> Step:
    """A step that appends others, which do so in turn, ``depth`` levels deep; perhaps none."""
    appends: list[Step] = []
    for part in (f"{name}.{n}" for n in range(dice.choice((0, 1, 2, 4, 8)))):
        if depth > 0 and dice.random() < 0.3:
            appends.append(_growing(dice, part, (), depth=depth - 1))
        else:
            # Some are a chain of two, of which only the last is waited for.
            after = ((appends[-1].name, "cancel"),) if appends and dice.random() < 0.2 else ()
            appends.append(Step(part, after, act=_some(dice)))
    if dice.random() < 0.02:
        appends = [Step(f"{name}.{n}", ()) for n in range(600)]
    return Step(name, parents, appends=tuple(appends))


def _map_reduce(dice: random.Random) -> list[Step]:
    return [
        Step("root", ()),
        _growing(dice, "split", (_edge(dice, "root"),), depth=dice.choice((0, 1, 3))),
        Step("reduce", (_edge(dice, "split"),), reduces="split"),
        Step("last", (_edge(dice, "reduce"),)),
    ]


def _choice(dice: random.Random) -> list[Step]:
    """Two branches, of which conditions, or steps that skip themselves, leave one or none."""
    yes = dice.random() < 0.5
    return [
        Step("check", (), act=_some(dice)),
        Step("yes", (_edge(dice, "check"),), when=("check", yes)),
        Step("yes_more", (_edge(dice, "yes"),), act=_some(dice)),
        Step("no", (_edge(dice, "check"),), when=("check", not yes)),
        Step("no_more", (_edge(dice, "no"),)),
        Step("join", (_edge(dice, "yes_more"), _edge(dice, "no_more"))),
    ]


def _compensated(dice: random.Random) -> list[Step]:
    """A step undoes two others when one of them has failed."""
    return [
        Step("root", ()),
        Step("one", (("root", "cancel"),), act=_some(dice)),
        Step("other", (("root", "cancel"),), act=_some(dice)),
        Step("undo", (("one", "on_failure"), ("other", "on_failure"), ("root", "cancel"))),
        Step("last", (("undo", "continue"), _edge(dice, "one"))),
    ]


def _calling(dice: random.Random) -> list[Step]:
    """Steps that run workflows of their own, one after and one beside another."""

    def runs() -> tuple[Step, ...]:
        first = Step("k0", (), act=_some(dice))
        return first, *(Step(f"k{n}", ((f"k{n - 1}", "cancel"),)) for n in range(1, 3))

    return [
        Step("root", ()),
        Step("call", (("root", "cancel"),), runs=runs()),
        Step("beside", (("root", "cancel"),), runs=runs()),
        Step("again", (_edge(dice, "call"),), runs=runs()),
        Step("last", (_edge(dice, "again"), _edge(dice, "beside"))),
    ]


_BRANCHING_SHAPES: Final = (_map_reduce, _choice, _compensated, _calling)
