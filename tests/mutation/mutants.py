"""Mutants of a module: its source with one small change, numbered in the order of its syntax tree.

Changed are comparisons, conditions, `and` and `or`, arithmetic, numbers, truth values, short strings, returned values,
handlers of exceptions, and statements, which are left out. Left alone are annotations, docstrings, and prose (strings
with a space and the text of f-strings), which other tests read.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
ARITHMETIC: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitAnd, ast.USub: ast.UAdd,
}  # fmt: skip
WIDTH = 100  # characters of a line of source in a key


@dataclass(frozen=True)
class Mutant:
    """One change of a module; `key` names function, code and change, and is the same while these are."""

    number: int
    kind: str
    key: str
    line: int
    lines: tuple[int, ...]  # of the code that is changed, then of its whole statement
    at_import: bool


@dataclass(frozen=True)
class _Site:
    node: ast.AST
    kind: str
    change: str
    apply: Callable[[], None]


@dataclass(frozen=True)
class _Place:
    name: str  # of the classes and functions around
    statement: ast.stmt
    in_function: bool


def list_mutants(file: Path) -> list[Mutant]:
    """All mutants of a module."""
    tree = ast.parse(file.read_text())
    places, seen, found = dict(_places(tree, '', None, False)), Counter[str](), []
    for number, site in enumerate(_sites(tree)):
        place = places[site.node]
        code = ' '.join(ast.unparse(site.node).split())[:WIDTH]
        key = f'{file.parent.name}/{file.name} {place.name or "<module>"}: {code} [{site.change}]'
        seen[key] += 1
        key += f' {seen[key]}' * (seen[key] > 1)
        lines = (*_lines(site.node, place.statement), *_lines(place.statement, place.statement))
        found.append(Mutant(number, site.kind, key, lines[0], lines, not place.in_function))
    return found


def compile_mutant(file: Path, number: int) -> CodeType:
    """The code of a module with one change."""
    tree = ast.parse(file.read_text())
    list(_sites(tree))[number].apply()
    return compile(ast.fix_missing_locations(tree), str(file), 'exec')


def _lines(node: ast.AST, statement: ast.stmt) -> tuple[int, ...]:
    first, last = getattr(node, 'lineno', statement.lineno), getattr(node, 'end_lineno', statement.lineno)
    if isinstance(node, ast.stmt) and hasattr(node, 'body'):
        last = first
    return tuple(range(first, last + 1))


def _places(
    node: ast.AST, name: str, statement: ast.stmt | None, in_function: bool
) -> Iterator[tuple[ast.AST, _Place]]:
    """Each node with what holds it; the defaults of arguments belong to where a function is defined."""
    if isinstance(node, ast.stmt):
        statement = node
    if statement is not None:
        yield node, _Place(name, statement, in_function)
    is_function = isinstance(node, ast.FunctionDef)
    inside = f'{name}.{node.name}'.lstrip('.') if isinstance(node, ast.FunctionDef | ast.ClassDef) else name
    for child in ast.iter_child_nodes(node):
        within = in_function or (is_function and not isinstance(child, ast.arguments))
        yield from _places(child, inside, statement, within)


def _sites(node: ast.AST) -> Iterator[_Site]:
    """Every change that is tried, in the order of the source."""
    if _is_left_alone(node):
        return
    yield from _changes(node)
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _sites(part.value)
        return
    for name, value in ast.iter_fields(node):
        if name in ('annotation', 'returns', 'type_params', 'decorator_list'):
            continue
        if isinstance(value, list) and name in ('body', 'orelse', 'finalbody'):
            for index, statement in enumerate(value):
                yield from _removals(value, index, statement)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _sites(child)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring, or an ellipsis
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__all__':
        return True
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) in ('Literal', 'Annotated', 'TypeAdapter')


def _removals(body: list[ast.stmt], index: int, node: ast.stmt) -> Iterator[_Site]:
    """Statements left out; `break` and `continue` for each other."""
    if isinstance(node, ast.Break | ast.Continue):
        other = ast.Continue() if isinstance(node, ast.Break) else ast.Break()
        yield _Site(node, 'loop', ast.unparse(other), partial(body.__setitem__, index, other))
    called = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom)
    stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if called or stored or isinstance(node, ast.Raise | ast.AugAssign | ast.Delete):
        yield _Site(node, 'statement', 'left out', partial(body.__setitem__, index, ast.Pass()))


def _changes(node: ast.AST) -> Iterator[_Site]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield _Site(node, 'comparison', other.__name__, partial(node.ops.__setitem__, index, other()))
    elif isinstance(node, ast.BoolOp):
        op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield _set(node, 'and/or', 'op', op, type(op).__name__)
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.UnaryOp) and type(node.op) in ARITHMETIC:
        yield _set(node, 'arithmetic', 'op', ARITHMETIC[type(node.op)](), ARITHMETIC[type(node.op)].__name__)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _set(node, 'condition', 'operand', ast.UnaryOp(ast.Not(), node.operand), 'without not')
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node)
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield _set(node, 'return', 'value', ast.Constant(None), 'returns None')
    elif isinstance(node, ast.ExceptHandler):
        yield _set(node, 'handler', 'type', ast.Tuple([], ast.Load()), 'catches nothing')
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == 'suppress':
        yield _set(node, 'handler', 'args', [], 'suppresses nothing')
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield _set(node, 'condition', 'test', ast.UnaryOp(ast.Not(), node.test), 'not')
    if isinstance(node, ast.comprehension):
        for index, test in enumerate(node.ifs):
            yield _Site(test, 'condition', 'always', partial(node.ifs.__setitem__, index, ast.Constant(True)))


def _other_constants(node: ast.Constant) -> Iterator[_Site]:
    value: Any = node.value
    if isinstance(value, bool):
        yield _set(node, 'constant', 'value', not value, repr(not value))
    elif isinstance(value, int):
        yield _set(node, 'constant', 'value', value + 1, repr(value + 1))
    elif isinstance(value, float):
        yield _set(node, 'constant', 'value', value * 1.5 or 1.0, repr(value * 1.5 or 1.0))
    elif isinstance(value, str) and ' ' not in value:
        yield _set(node, 'string', 'value', f'{value}XX', repr(f'{value}XX'))
    elif isinstance(value, bytes):
        yield _set(node, 'string', 'value', value + b'XX', repr(value + b'XX'))


def _set(node: ast.AST, kind: str, name: str, value: object, change: str) -> _Site:
    return _Site(node, kind, change, partial(setattr, node, name, value))
