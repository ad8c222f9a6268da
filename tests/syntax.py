"""Programs edited through their syntax trees: what the mutations of cells and the seeded faults are made with."""

import ast
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple


class Slot(NamedTuple):
    """A place in a syntax tree: a field of a node or, where the field is a list, one of its elements."""

    parent: ast.AST
    field: str
    index: int | None

    def __str__(self) -> str:
        return ast.unparse(self.get())

    def get(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node

    def following(self) -> "Slot | None":
        """The next element of the same list."""
        if self.index is None or self.index + 1 == len(getattr(self.parent, self.field)):
            return None
        return self._replace(index=self.index + 1)

    def is_argument(self) -> bool:
        """Whether this is an argument of a call."""
        return isinstance(self.parent, ast.Call) and self.field == "args"


class Edit(NamedTuple):
    """Nodes put into places, and what that is in words."""

    changes: Sequence[tuple[Slot, ast.AST]]
    said: str

    def __str__(self) -> str:
        return self.said

    @classmethod
    def at(cls, slot: Slot, node: ast.AST) -> "Edit":
        """One node in place of another."""
        return cls([(slot, node)], f"{slot} → {ast.unparse(ast.fix_missing_locations(node))}")

    @contextmanager
    def made(self) -> Iterator[None]:
        """Within, the tree is edited."""
        before = [(slot, slot.get()) for slot, _ in self.changes]
        for slot, node in self.changes:
            slot.put(
                node if hasattr(node, "lineno") else ast.fix_missing_locations(ast.copy_location(node, slot.get()))
            )
        try:
            yield
        finally:
            for slot, node in before:
                slot.put(node)


def parse_module(module: ModuleType) -> ast.Module:
    """The syntax tree of a module's source."""
    return ast.parse(inspect.getsource(module))


def fresh_run(module: ModuleType, tree: ast.Module) -> dict[str, Any]:
    """The names that a module makes when it is run as this tree says, under its own name."""
    names: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(tree, module.__name__, "exec"), names)
    return names


def find(tree: ast.AST, qualified_name: str) -> ast.FunctionDef:
    """The function or method of this name."""
    found: Any = tree
    for name in qualified_name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        matching = [node for node in ast.walk(found) if isinstance(node, kinds) and node.name == name]
        assert matching, f"there is no {qualified_name}"
        found = matching[0]
    assert isinstance(found, ast.FunctionDef)
    return found


def slots(definition: ast.FunctionDef) -> Iterator[Slot]:
    """Every place below the body of a function, but for docstrings and annotations."""
    for index, statement in enumerate(definition.body):
        if not _is_docstring(statement):
            slot = Slot(definition, "body", index)
            yield slot
            yield from below(statement)


def below(node: ast.AST) -> Iterator[Slot]:
    """Every place below a node, but for docstrings and annotations of the functions in it."""
    if isinstance(node, ast.FunctionDef):
        yield from slots(node)
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns") or isinstance(node, ast.arguments):
            continue
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST):
                yield Slot(node, field, index)
                yield from below(child)


def _is_docstring(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def expression(template: str, **parts: ast.AST) -> ast.expr:
    """An expression from its text, the names in capitals replaced by nodes."""

    class Filled(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> Any:
            return parts.get(node.id, node)

    return Filled().visit(ast.parse(template, mode="eval").body)  # type: ignore[no-any-return]


def call_name(node: ast.Call) -> str:
    """The last part of the name that a call calls, "" if it has none."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def mentions(node: ast.AST) -> set[str]:
    """Every name and attribute below a node."""
    return {
        one.id if isinstance(one, ast.Name) else one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Name | ast.Attribute)
    }
