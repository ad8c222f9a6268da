"""Mutants of a function: its syntax tree with one edit each, of the kinds by which recurrent cells go wrong.

The edits know the language of the equations (sums, products, σ and tanh, tuples of gates, old and new state), and no
name of a local variable, so that a rename changes no mutant. An edit that gives the same text as another is made once.
"""

import ast
from collections.abc import Iterator, Sequence
from itertools import permutations
from types import ModuleType
from typing import Any, NamedTuple

from .syntax import Edit, Slot, call_name, expression, find, fresh_run, parse_module, slots


class Mutant(NamedTuple):
    """A function of a module with one edit."""

    function: str
    edit: Edit
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.function}: {self.edit}"

    def namespace(self, module: ModuleType) -> dict[str, Any]:
        """The names of the module, had it been written so."""
        with self.edit.made():
            return fresh_run(module, self.tree)


def mutants(module: ModuleType, function: str) -> list[Mutant]:
    """Every mutant of a function, given by its qualified name; first itself, edited by nothing."""
    tree = parse_module(module)
    definition = find(tree, function)
    found: dict[str, Mutant] = {}
    for edit in (Edit([], "no edit"), *_edits(definition)):
        with edit.made():
            found.setdefault(ast.unparse(definition), Mutant(function, edit, tree))
    return [*found.values()]


def _edits(definition: ast.FunctionDef) -> Iterator[Edit]:
    yield from _permuted_together(definition)
    for slot in slots(definition):
        node = slot.get()
        if isinstance(node, ast.expr):
            for other in [*_expressions(node, slot), *_names(node, definition)]:
                yield Edit.at(slot, other)
        elif isinstance(node, ast.stmt):
            for other_statement in _statements(node, definition):
                yield Edit.at(slot, other_statement)
            following = slot.following()
            if following is not None and _depend(node, following.get(), definition):
                yield Edit([(slot, following.get()), (following, node)], f"{slot} after {following}")


def _permuted_together(definition: ast.FunctionDef) -> Iterator[Edit]:
    """The same wrong order of the targets in all assignments of as many: the gates mixed up, but consistently."""
    unpacked = [slot for slot in slots(definition) if _targets(slot.get())]
    for count in {len(_targets(slot.get())) for slot in unpacked}:
        alike = [slot for slot in unpacked if len(_targets(slot.get())) == count]
        for order in list(permutations(range(count)))[1:]:
            if len(alike) > 1:
                yield Edit([(slot, _permuted(slot.get(), order)) for slot in alike], f"all {count} targets as {order}")


def _targets(node: ast.AST) -> Sequence[ast.expr]:
    """The targets of an assignment to several names."""
    match node:
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Call() | ast.Name()) if len(targets) > 1:
            return targets
    return ()


def _permuted(node: Any, order: Sequence[int]) -> ast.Assign:
    targets: list[ast.expr] = [_targets(node)[k] for k in order]
    return ast.Assign(targets=[ast.Tuple(elts=targets, ctx=ast.Store())], value=node.value)


def _statements(node: ast.stmt, definition: ast.FunctionDef) -> Iterator[ast.stmt]:
    """Another order of targets; an assignment left out, or made in place, where the name was bound before; a call
    left out; a condition turned round."""
    for order in list(permutations(range(len(_targets(node)))))[1:]:
        yield _permuted(node, order)
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _bound_before(node, definition):
            yield ast.Pass()
            if _arrays(definition):  # its arguments are the caller's
                whole = ast.Subscript(value=ast.Name(id=name, ctx=ast.Load()), slice=ast.Constant(...), ctx=ast.Store())
                yield ast.Assign(targets=[whole], value=value)
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(test=ast.UnaryOp(op=ast.Not(), operand=test), body=body, orelse=orelse)


def _depend(first: ast.stmt, second: ast.stmt, definition: ast.FunctionDef) -> bool:
    """Whether two statements can change places, and it matters."""
    here, before = _bound(definition), {*_bound_before(first, definition)}
    can = _read(second) & here <= before
    return can and bool(_bound(first) & _read(second) or _read(first) & _bound(second))


def _expressions(node: ast.expr, slot: Slot) -> Iterator[ast.expr]:
    if isinstance(slot.parent, ast.keyword) and slot.parent.arg == "strict":
        return  # of zip: says that two lengths are equal
    if isinstance(slot.parent, ast.Tuple) and isinstance(node, ast.Constant):
        return  # the options of torch's kernel, which reads whatever memory it is told to
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op, right=right):
            yield from (left, right)
            for other in (ast.Add(), ast.Sub(), ast.Mult()):
                yield ast.BinOp(left=left, op=other, right=right)
            if isinstance(op, ast.Sub | ast.Div):
                yield ast.BinOp(left=right, op=op, right=left)
            if isinstance(op, ast.Add):
                yield from _reassociated(left, right)
        case ast.BinOp(left=left, op=ast.MatMult(), right=ast.Attribute(value=matrix, attr="T")):
            yield expression(  # every square block the wrong way round
                "LEFT @ W.reshape(-1, W.shape[1], W.shape[1]).swapaxes(1, 2).reshape(W.shape).T", LEFT=left, W=matrix
            )
        case ast.Call(args=[argument, *_]) if call_name(node) in ("sigmoid", "tanh"):
            yield argument
            yield expression("xp.tanh(X)" if call_name(node) == "sigmoid" else "sigmoid(X, xp)", X=argument)
            yield expression("1.0 - X", X=node)
            yield ast.Call(func=node.func, args=[expression("X + 1.0", X=argument), *node.args[1:]], keywords=[])
        case ast.Call(func=ast.Attribute(value=rows, attr="append"), args=[row]):
            yield expression("ROWS.insert(0, ROW)", ROWS=rows, ROW=row)
        case ast.Call(func=ast.Attribute(value=start, attr="zeros"), args=args, keywords=keywords):
            yield ast.Call(ast.Attribute(value=start, attr="ones", ctx=ast.Load()), args, keywords)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield from (ast.Constant(value=other) for other in (0, value + 1, 2 * value))
        case ast.Constant(value=str() as value) if value.startswith(("weight_", "bias_")):
            yield from (ast.Constant(value=other) for other in WEIGHTS)
        case ast.Tuple(elts=elements, ctx=ast.Load()):
            for k in range(len(elements) - 1):
                swapped = [*elements[:k], elements[k + 1], elements[k], *elements[k + 2 :]]
                yield ast.Tuple(elts=swapped, ctx=ast.Load())
        case ast.Subscript(value=sequence, slice=ast.Name() as at, ctx=ast.Load()):
            for other in ("-1 - AT", "max(AT - 1, 0)"):
                yield ast.Subscript(value=sequence, slice=expression(other, AT=at), ctx=ast.Load())
            yield expression("X[AT:].mean(0)", X=sequence, AT=at)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test=test, body=orelse, orelse=body)
    if isinstance(node, ast.Name | ast.Subscript) and slot.is_argument():
        yield expression("X.detach()", X=node)
        yield expression("X.flip(0)", X=node)
        yield expression("X + X.mean(0)", X=node)


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch")


def _reassociated(left: ast.expr, right: ast.expr) -> Iterator[ast.expr]:
    """Of a + b ⊙ c: (a + c) ⊙ b and (a + b) ⊙ c."""
    for addend, product in ((left, right), (right, left)):
        match product:
            case ast.BinOp(left=first, op=ast.Mult(), right=second):
                yield expression("(A + C) * B", A=addend, B=first, C=second)
                yield expression("(A + B) * C", A=addend, B=first, C=second)


def _names(node: ast.expr, definition: ast.FunctionDef) -> Iterator[ast.expr]:
    """Another array for an array, in a function whose names are all arrays; the old state for the new."""
    arrays = _arrays(definition)
    if not arrays or not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
        return
    bound = [name for name in _bound_before(node, definition) if name != "_"]
    if node.id in (*arrays, *bound):
        yield from (ast.Name(id=other, ctx=ast.Load()) for other in dict.fromkeys([*arrays, *bound]))
    if bound.count(node.id) > 1:
        yield from (expression(f"state[{part}]") for part in (0, 1))


def _arrays(definition: ast.FunctionDef) -> list[str]:
    """The arguments of a function of arrays."""
    return [one.arg for one in definition.args.args if one.annotation and ast.unparse(one.annotation) == "Array"]


def _bound_before(node: ast.stmt | ast.expr, definition: ast.FunctionDef) -> list[str]:
    """The names that the function's statements bind above this line, each as often as they do."""
    stored = (one for one in ast.walk(definition) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
    return [one.id for one in stored if one.lineno < node.lineno]


def _bound(statement: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(statement) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _read(statement: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(statement) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
