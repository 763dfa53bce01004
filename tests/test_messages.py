"""What messages may not say."""

import ast
import re

from helpers import paths

_DELETING = re.compile(
  r"\b(delete|remove|rm)\s+(it|its|them|the|this|that|or)\b", re.IGNORECASE
)


def test_no_message_advises_to_delete():
  """What somebody deletes at our word is gone, and the word may be wrong."""
  found = []
  for path in sorted((paths.ROOT / "facejax").rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Raise) or _is_logging(node):
        text = " ".join(
          part.value
          for part in ast.walk(node)
          if isinstance(part, ast.Constant) and isinstance(part.value, str)
        )
        found += [f"{path}: {text}"] * bool(_DELETING.search(text))
  assert not found


def _is_logging(node):
  return (
    isinstance(node, ast.Call)
    and isinstance(node.func, ast.Attribute)
    and node.func.attr in ("warning", "error", "info")
  )
