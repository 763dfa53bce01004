"""What the pages have in common: templates, style, and what may stand in them."""

import pathlib
from typing import Any

from facejax.runtime import extras

_HERE = pathlib.Path(__file__).parent
_LONGEST_NAME = 44


def environment() -> Any:
  """The templates of this folder, which escape all that is no markup.

  Raises:
    MissingPackageError: without jinja2.
  """
  try:
    import jinja2
  except ImportError:
    raise extras.MissingPackageError(
      "the report needs jinja2: pip install jinja2", name="jinja2"
    ) from None
  found = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
  )
  found.filters["short"] = _short
  return found


def style() -> Any:
  """The style sheet of all pages."""
  return markup((_HERE / "style.css").read_text())


def markup(text: str) -> Any:
  """Marks text of our own as HTML; all other text is escaped."""
  import markupsafe

  return markupsafe.Markup(text)


def _short(name: str) -> str:
  """The end of a long name, which tells images apart."""
  return name if len(name) <= _LONGEST_NAME else f"…{name[-_LONGEST_NAME:]}"
