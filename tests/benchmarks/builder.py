"""The cost of building and compiling a workflow of 100,000 steps, for each shape of graph.

Run it with ``python tests/benchmarks/builder.py``; it prints seconds. No server is involved.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import pairwise

from rwf.model.builder import Workflow, result

STEPS = 100_000
WIDTH = 300


def fan_out() -> Workflow:
    """One parent of all others; each refers to its result."""
    wf = Workflow("fan_out").add("root", worker="w")
    for number in range(1, STEPS):
        given = {"n": number, "of": result("root")}
        wf.add(f"s{number}", worker="w", input=given, deps=["root"])
    return wf


def fan_in() -> Workflow:
    """One child of all others, whose input refers to all of their results."""
    wf = Workflow("fan_in")
    names = [f"s{number}" for number in range(1, STEPS)]
    for number, name in enumerate(names):
        wf.add(name, worker="w", input={"n": number})
    return wf.add("join", worker="w", input=[result(name) for name in names], deps=names)


def chain() -> Workflow:
    """Each step depends on the one before, and refers to its result."""
    wf = Workflow("chain").add("s0", worker="w")
    for number in range(1, STEPS):
        before = f"s{number - 1}"
        given = {"n": number, "before": result(before)}
        wf.add(f"s{number}", worker="w", input=given, deps=[before])
    return wf


def above(number: int) -> list[str]:
    """Three parents in the layer above; the first layer has none."""
    layer, column = divmod(number, WIDTH)
    first = (layer - 1) * WIDTH
    return [f"s{first + (column + by) % WIDTH}" for by in range(3)] if layer else []


def layers() -> Workflow:
    """Layers 300 wide; each step has three parents in the layer above."""
    wf = Workflow("layers")
    for number in range(STEPS):
        wf.add(f"s{number}", worker="w", input={"n": number}, deps=above(number))
    return wf


def layers_reversed() -> Workflow:
    """Layers of the same kind, each step added before its parents."""
    return Workflow("layers").add_many(step for step in reversed(layers().steps))


def chain_report() -> Workflow:
    """A chain whose last step refers to the results of all others."""
    wf = chain()
    every = [result(f"s{number}") for number in range(STEPS)]
    return wf.add("report", worker="w", input=every, deps=[f"s{STEPS - 1}"])


def layers_far_references() -> Workflow:
    """Layers in which each step refers to one anywhere above it: mostly ancestors, rarely near."""
    wf = Workflow("layers")
    for number in range(STEPS):
        deps = above(number)
        far = number * 7919 % (number // WIDTH * WIDTH) if deps else 0
        wf.add(f"s{number}", worker="w", input=result(f"s{far}") if deps else None, deps=deps)
    return wf


SHAPES: tuple[Callable[[], Workflow], ...] = (
    fan_out,
    fan_in,
    chain,
    layers,
    layers_reversed,
    chain_report,
    layers_far_references,
)


def measure(shape: Callable[[], Workflow]) -> list[float]:
    """Seconds to build, to compile, and to write and read the JSON form."""
    times = [time.perf_counter()]
    wf = shape()
    times.append(time.perf_counter())
    wf.compile(max_payload=16 * 1024 * 1024)
    times.append(time.perf_counter())
    form = wf.to_dict()
    times.append(time.perf_counter())
    Workflow.from_dict(form)
    times.append(time.perf_counter())
    return [after - before for before, after in pairwise(times)]


def main() -> None:
    print(f"{'shape':<24}{'build':>8}{'compile':>9}{'to_dict':>9}{'from_dict':>11}")
    for shape in SHAPES:
        # Leftovers of an earlier shape are not this one's cost.
        gc.collect()
        build, compiled, to, back = measure(shape)
        print(f"{shape.__name__:<24}{build:>8.2f}{compiled:>9.2f}{to:>9.2f}{back:>11.2f}")


if __name__ == "__main__":
    main()
