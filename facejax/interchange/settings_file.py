"""Reads a Python file of settings without running it.

Trainers of the field keep their recipes in such files, `config.lr = 0.1` line
by line. What is read here is what such lines need: constants, tuples, lists,
arithmetic, and names that were set above.
"""

import ast
import operator
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Settings are some dozens of short lines.
_MOST_BYTES = 1 << 20
# No power: 9 ** 9 ** 9 would not end.
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
  ast.FloorDiv: operator.floordiv,
  ast.Mod: operator.mod,
}
_SIGNS: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
  ast.UAdd: operator.pos,
  ast.USub: operator.neg,
  ast.Not: operator.not_,
}
# What calls stand for, by the end of their names.
_CALLS = ("edict", "EasyDict", "dict")


class Setting(NamedTuple):
  """A value, and the line of the file that set it last; 0 for a default."""

  value: Any
  line: int = 0


def read(
  path: str | os.PathLike[str],
  defaults: Mapping[str, Any] | None = None,
  *,
  holder: str = "config",
) -> dict[str, Setting]:
  """The settings of a file, by name.

  Args:
    path: the file; `HOLDER.NAME = VALUE` and `HOLDER["NAME"] = VALUE` are
      settings, other assignments are remembered for those below them.
    defaults: what holds where the file says nothing.
    holder: the object that settings are attributes of.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no Python, or has a line that would have to be run; the
      message names file and line.
  """
  path = pathlib.Path(path)
  reader = _Reader(path, holder, dict(defaults or {}))
  for statement in _parsed(path).body:
    reader.take(statement)
  return reader.settings


def _parsed(path: pathlib.Path) -> ast.Module:
  if path.stat().st_size > _MOST_BYTES:
    raise ValueError(f"{path}: {path.stat().st_size:,} bytes are no settings")
  try:
    return ast.parse(path.read_text(encoding="utf-8"))
  except SyntaxError as error:
    raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from None
  except (UnicodeDecodeError, RecursionError, MemoryError) as error:
    raise ValueError(f"{path} is no Python file: {error}") from None


class _Reader:
  """Goes through a file from the top, as Python would."""

  def __init__(
    self, path: pathlib.Path, holder: str, defaults: Mapping[str, Any]
  ):
    self._path, self._holder = path, holder
    self._names: dict[str, Any] = {}
    self.settings = {name: Setting(value) for name, value in defaults.items()}

  def take(self, statement: ast.stmt) -> None:
    """Takes one statement; imports and documentation say nothing here."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
      return
    if isinstance(statement, ast.Expr) and isinstance(
      statement.value, ast.Constant
    ):
      return
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
      self._assign(statement.targets[0], statement.value)
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
      self._assign(statement.target, statement.value)
    else:
      raise self._unread(statement)

  def _assign(self, target: ast.expr, value: ast.expr) -> None:
    if isinstance(target, ast.Name) and target.id == self._holder:
      if not isinstance(value, ast.Call | ast.Dict):
        raise self._unread(value)
      self._fill(value)
      return
    name = self._setting(target)
    if name is not None:
      self.settings[name] = Setting(self._value(value), target.lineno)
    elif isinstance(target, ast.Name):
      self._names[target.id] = self._value(value)
    else:
      raise self._unread(target)

  def _fill(self, value: ast.expr) -> None:
    """`config = edict()`, also with settings within the brackets."""
    found = self._value(value)
    for name, one in found.items():
      self.settings[str(name)] = Setting(one, value.lineno)

  def _setting(self, node: ast.expr) -> str | None:
    """The name of a setting: of config.lr or config["lr"]; else None."""
    of = getattr(node, "value", None)
    if not isinstance(of, ast.Name) or of.id != self._holder:
      return None
    if isinstance(node, ast.Attribute):
      return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
      return str(node.slice.value)
    return None

  def _value(self, node: ast.expr) -> Any:
    name = self._setting(node)
    if name is not None:
      if name not in self.settings:
        raise self._unread(node, f"nothing above it sets {ast.unparse(node)}")
      return self.settings[name].value
    try:
      return self._computed(node)
    except (ArithmeticError, TypeError, LookupError) as error:
      raise self._unread(node, str(error)) from None

  def _computed(self, node: ast.expr) -> Any:
    match node:
      case ast.Constant():
        return node.value
      case ast.Name() if node.id in self._names:
        return self._names[node.id]
      case ast.Tuple() | ast.List():
        return [self._value(one) for one in node.elts]
      case ast.Dict() if all(node.keys):
        keys = [self._value(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(self._value, node.values), strict=True))
      case ast.UnaryOp() if type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](self._value(node.operand))
      case ast.BinOp() if type(node.op) in _ARITHMETIC:
        return self._arithmetic(node)
      case ast.Subscript():
        return self._value(node.value)[self._value(node.slice)]
      case ast.Call() if ast.unparse(node.func).split(".")[-1] in _CALLS:
        found = dict(*map(self._value, node.args))
        return found | {k.arg: self._value(k.value) for k in node.keywords}
      case ast.Call() if ast.unparse(node.func) == "os.path.join":
        return os.path.join(*map(self._value, node.args))
      case _:
        raise self._unread(node)

  def _arithmetic(self, node: ast.BinOp) -> Any:
    """Of numbers; texts and lists are joined alone.

    Repeated or formatted, a short line could fill the memory with them.
    """
    left, right = self._value(node.left), self._value(node.right)
    if isinstance(left, str | list) or isinstance(right, str | list):
      if not isinstance(node.op, ast.Add):
        raise self._unread(node, "of texts and lists, only sums are read")
      if len(left) + len(right) > _MOST_BYTES:
        raise self._unread(node, "it is too long")
    return _ARITHMETIC[type(node.op)](left, right)

  def _unread(self, node: ast.AST, why: str = "") -> ValueError:
    text = ast.unparse(node).splitlines()[0]
    return ValueError(
      f"{self._path}, line {getattr(node, 'lineno', '?')}: {text!r} cannot be read"
      f" without running it{why and f' ({why})'}; write the value itself there:"
      " constants, lists, arithmetic and names set above are read"
    )
