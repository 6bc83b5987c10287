"""Mutants of the Python core: each operator, value and effect in a function's body changed.

Names, types, defaults and the tables at the top of a module stay as they are: a process has them
once it has imported the module, and the tables have tests with literal rows. Texts for people stay
too: docstrings, strings with a blank in them, and ``repr``.
"""

from __future__ import annotations

import ast
import gc
import sys
import threading
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

import pytest

from tests.fault.mutation.campaign import Campaign, Mutant, changed

CORE: Final = (
    *map(str, sorted(Path("rwf/model").rglob("*.py"))),
    *(
        f"rwf/protocol/{name}.py"
        for name in ("codecs", "headers", "records", "waits", "callbacks", "keys")
    ),
    "rwf/ops/explanation.py",
    "rwf/ops/root_causes.py",
)
"""Modules that need no server, nor do their tests. ``rwf/ops`` is tested by ``tests/contract``."""

_OPERATORS: Final[dict[type[ast.AST], tuple[str, str]]] = {
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "//"), ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"), ast.Mod: ("%", "//"), ast.BitOr: ("|", "&"), ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<"), ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}  # fmt: skip
_JUMPS: Final[dict[type[ast.AST], str]] = {ast.Continue: "break", ast.Break: "continue"}
_BLOCKS: Final = ("body", "orelse", "finalbody", "handlers", "cases")

_Change = tuple[int, int, str]


class _Source:
    """A module's text, with its statements and the possible changes of each."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.text = Path(file).read_text()
        self._starts = [0]
        for line in self.text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def mutants(self) -> Iterator[Mutant]:
        for statement in _statements(ast.parse(self.text).body, inside=False):
            places = [f"{self.file}:{line}" for line in _own_lines(statement)]
            changes = {*self._effect(statement)}
            for node in _expressions(statement):
                changes |= {*self._operator(node), *self._condition(node), *self._value(node)}
            for start, end, put in sorted(changes):
                yield changed(self.file, self.text, start, end, put, places)

    def _span(self, node: Any) -> tuple[int, int]:
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _effect(self, node: ast.AST) -> Iterator[_Change]:
        """A call, an assignment to a part of something, or a refusal that is left out."""
        match node:
            case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
                if "super()" in self.text[slice(*self._span(node))]:
                    return  # the code could not replace a function that closes over its class
                yield *self._span(node), "pass"
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield *self._span(node), "pass"
            case ast.AugAssign() | ast.Raise() | ast.Delete():
                yield *self._span(node), "pass"
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield *self._span(value), "None"
            case ast.Continue() | ast.Break():
                yield *self._span(node), _JUMPS[type(node)]

    def _operator(self, node: ast.AST) -> Iterator[_Change]:
        match node:
            case ast.Compare():
                yield from self._between([node.left, *node.comparators], node.ops)
            case ast.BoolOp():
                yield from self._between(node.values, [node.op] * (len(node.values) - 1))
            case ast.BinOp():
                yield from self._between([node.left, node.right], [node.op])
            case ast.UnaryOp(op=ast.Not()):
                start, _ = self._span(node)
                yield start, start + len("not"), ""

    def _between(
        self, operands: Sequence[ast.expr], operators: Sequence[ast.AST]
    ) -> Iterator[_Change]:
        for (left, right), operator in zip(pairwise(operands), operators, strict=True):
            if type(operator) in _OPERATORS:
                was, now = _OPERATORS[type(operator)]
                start = self.text.index(was, self._span(left)[1], self._span(right)[0])
                yield start, start + len(was), now

    def _condition(self, node: ast.AST) -> Iterator[_Change]:
        """Each condition negated as a whole, unless that equals a negated operator."""
        match node:
            case ast.If() | ast.While() | ast.IfExp():
                tests = [node.test]
            case ast.comprehension():
                tests = node.ifs
            case ast.match_case(guard=ast.expr() as guard):
                tests = [guard]
            case _:
                return
        for test in tests:
            if not isinstance(test, ast.Compare | ast.UnaryOp):
                start, end = self._span(test)
                yield start, end, f"not ({self.text[start:end]})"

    def _value(self, node: ast.AST) -> Iterator[_Change]:
        match node:
            case ast.Constant(value=bool() as value):
                yield *self._span(node), str(not value)
            case ast.Constant(value=int() | float() as value):
                yield *self._span(node), str(value + 1)
            case ast.Constant(value=str() | bytes()) | ast.JoinedStr():
                start, end = self._span(node)
                quote = self.text.index('"', start)
                if " " not in self.text[start:end]:
                    yield quote + 1, quote + 1, "XX"


def _statements(body: Sequence[Any], *, inside: bool) -> Iterator[ast.AST]:
    """The contents of functions' bodies, except docstrings and assertions: statements, and the
    branches of ``match``."""
    for node in body:
        function = isinstance(node, ast.FunctionDef)
        if function and node.name == "__repr__":
            continue
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if inside and not function and not is_text and not isinstance(node, ast.Assert):
            yield node
        for block in _BLOCKS:
            yield from _statements(getattr(node, block, ()), inside=inside or function)


def _own_lines(node: Any) -> range:
    """The lines of a statement without those of the statements in it."""
    first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
    inner = getattr(node, "body", None) or getattr(node, "cases", None)
    if not inner:
        return range(first, node.end_lineno + 1)
    return range(first, max(first + 1, _own_lines(inner[0]).start))


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and the expressions in it, except types, patterns and parts of text."""
    yield node
    if isinstance(node, ast.JoinedStr):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "pattern", *_BLOCKS) and not isinstance(node, ast.expr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _expressions(child)


class PythonCampaign(Campaign):
    """A mutant's code is put into the existing functions."""

    suffix = ".py"
    tests = tuple(
        f"tests/unit/test_{name}.py"
        for name in (
            "states", "retry", "names", "ref", "payload", "filling", "dag", "graph", "workflow",
            "recovery_plan", "explaining", "records", "callback_records", "keys",
        )
    )  # fmt: skip

    def __init__(self, files: Sequence[str]) -> None:
        super().__init__(files)
        self._paths = {str(Path(mutant.file).resolve()): mutant.file for mutant in self.subjects}
        self._lines: set[str] = set()
        self._traced = False

    @staticmethod
    def mutants(file: str) -> Iterator[Mutant]:
        return _Source(file).mutants()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        self._traced = True
        yield
        self._traced = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Generator[None, None, None]:
        tracer = self._trace if self._traced else None
        threading.settrace(tracer)
        sys.settrace(tracer)
        try:
            yield from super().pytest_runtest_call(item)
        finally:
            sys.settrace(None)
            threading.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        file = self._paths.get(frame.f_code.co_filename)
        if file is None:
            return None
        self._lines.add(f"{file}:{frame.f_lineno}")
        return self._trace

    def entered(self) -> Collection[str]:
        found, self._lines = self._lines, set()
        return found

    @contextmanager
    def applied(self, mutant: Mutant) -> Iterator[None]:
        path = str(Path(mutant.file).resolve())
        mutated = dict(_codes(compile(mutant.text, path, "exec")))
        functions = _functions(path)
        codes = [function.__code__ for function in functions]
        for function, code in zip(functions, codes, strict=True):
            function.__code__ = mutated[code.co_qualname]
        try:
            yield
        finally:
            for function, code in zip(functions, codes, strict=True):
                function.__code__ = code


@cache
def _functions(path: str) -> Sequence[FunctionType]:
    """The functions of a module and of its classes."""
    return [
        one
        for one in gc.get_objects()
        if isinstance(one, FunctionType)
        and one.__code__.co_filename == path
        and "<locals>" not in one.__code__.co_qualname  # made anew by the function around it
    ]


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    """All code in a module's, by its qualified name."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner.co_qualname, inner
            yield from _codes(inner)
