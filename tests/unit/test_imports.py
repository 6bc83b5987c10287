"""Imports run one way, from the command line down to the model; read from the source, not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2] / "rwf"

LAYERS: Final = (
    {"errors", "model"},
    {"protocol", "reachability"},
    {"embedded", "private_files", "fakes", "webhook"},
    {"transport"},
    {"ops"},
    {"repair"},
    {"doctor", "dispatching", "waiting"},
    {"client", "aio"},
    {"internals"},
    {"runtime", "availability", "threads"},
    {"worker", "reconciler", "name_metrics", "metrics", "testing", ""},
    {"adapters", "console", "otel"},
    {"demo"},
    {"cli", "__main__"},
)
"""The modules below ``rwf``, lowest first; "" is the package itself. Each may import its own layer
and those before it. A new module gets its place here."""

_IO = ("redis", "rwf.transport", "time", "socket", "asyncio", "threading")

FORBIDDEN: Final = {
    "rwf.errors": ("redis", "logging"),
    "rwf.model": ("redis", "logging", "time", "random", "socket", "asyncio", "threading"),
    "rwf.protocol": _IO,
    "rwf.ops": _IO,
    "rwf.repair": _IO,
    "rwf.demo": ("redis", "rwf.ops", "rwf.protocol", "rwf.repair", "rwf.transport"),
    "rwf.console": ("redis", "rwf.ops", "rwf.protocol", "rwf.repair", "rwf.transport"),
    "rwf.cli": ("redis", "rwf.ops", "rwf.protocol", "rwf.repair", "rwf.transport"),
}
"""Modules that a package and all below it may not import, whatever its layer."""

CLOCKS: Final = {"now", "utcnow", "today"}


class Import(NamedTuple):
    """One imported name, and where."""

    module: str
    line: int
    target: str


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    """Every import of the file at any depth, except those under TYPE_CHECKING."""
    module = module_name(path)
    pending: list[ast.AST] = [ast.parse(path.read_bytes(), str(path))]
    while pending:
        node = pending.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pending.extend(node.orelse)
                continue
            case ast.Import():
                for alias in node.names:
                    yield Import(module, node.lineno, alias.name)
            case ast.ImportFrom():
                base = node.module or ""
                if node.level:
                    package = path.parent.relative_to(ROOT.parent).parts
                    above = package[: len(package) - node.level + 1]
                    base = ".".join([*above, *filter(None, [node.module])])
                for alias in node.names:
                    yield Import(module, node.lineno, f"{base}.{alias.name}")
        pending.extend(ast.iter_child_nodes(node))


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(module: str) -> int:
    """The layer of a name in ``rwf``; for ``rwf.Client`` that of the package itself."""
    top = module.split(".")[1] if "." in module else ""
    if not any((ROOT / name).exists() for name in (f"{top}.py", top)):
        top = ""
    for height, names in enumerate(LAYERS):
        if top in names:
            return height
    raise AssertionError(f"give rwf.{top} a layer in {Path(__file__).name}")


def faults(found: Import) -> Iterator[str]:
    place = f"{found.module}, line {found.line}, imports {found.target}"
    if within(found.target, "rwf") and layer(found.target) > layer(found.module):
        yield f"{place}, of a higher layer"
    for package, targets in FORBIDDEN.items():
        if within(found.module, package):
            for target in targets:
                if within(found.target, target):
                    yield f"{place}, which {package} may not"


FILES: Final = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_run_one_way(path: Path) -> None:
    assert [fault for found in imports(path) for fault in faults(found)] == []


@pytest.mark.parametrize(
    "path", [path for path in FILES if within(module_name(path), "rwf.model")], ids=module_name
)
def test_the_model_reads_no_clock(path: Path) -> None:
    tree = ast.parse(path.read_bytes(), str(path))
    used = [
        f"line {node.lineno}: {node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS
    ]
    assert used == []


CLIENTS: Final = ("rwf.aio", "rwf.client", "rwf.internals")
PRIVATE: Final = frozenset({"_store", "_session", "_ctx", "_hints", "_waits"})


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_one_module_reads_the_private_attributes_of_clients(path: Path) -> None:
    """That is ``rwf.internals``; other modules have such attributes only on their own objects."""
    if any(within(module_name(path), client) for client in CLIENTS):
        return
    read = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(path.read_bytes(), str(path)))
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert read == []


@pytest.mark.parametrize(
    ("module", "target", "wrong"),
    [
        ("rwf.protocol.keys", "rwf.model.states.StepState", False),
        ("rwf.errors", "rwf.model.states.Reason", False),
        ("rwf.model.states", "rwf.protocol.keys", True),
        ("rwf.ops", "rwf.Client", True),
        ("rwf.ops.complete", "redis.Redis", True),
        ("rwf.ops.complete", "rwf.transport.blocking.drivers.Store", True),
        ("rwf.protocol.library", "redis", True),
        ("rwf.model.views", "logging", True),
        ("rwf.model.views", "datetime.datetime", False),
        ("rwf.model.views", "timeit", False),
        ("rwf.cli", "rwf.Client", False),
        ("rwf.cli.show", "rwf.protocol.keys", True),
    ],
)
def test_the_rule_itself(module: str, target: str, wrong: bool) -> None:
    assert bool(list(faults(Import(module, 1, target)))) is wrong
