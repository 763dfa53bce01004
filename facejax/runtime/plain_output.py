"""Output on terminals that cannot show every character.

Where the encoding of an output is ASCII or Latin-1, signs become words or what
looks like them, and letters of names their escapes (\\xe9), so that nothing is
lost and nothing stops the command.
"""

import codecs
import sys
import unicodedata

HANDLER = "facejax_plain"
_SIGNS = {
  "…": "...",
  "\N{EN DASH}": "-",
  "—": "-",
  "\N{LEFT SINGLE QUOTATION MARK}": "'",
  "\N{RIGHT SINGLE QUOTATION MARK}": "'",
  "“": '"',
  "”": '"',
  "•": "*",
  "·": "*",
  "\N{MULTIPLICATION SIGN}": "x",
  "°": " degrees",
  "±": "+-",
  "²": "^2",
  "≤": "<=",
  "≥": ">=",
  "≠": "!=",
  "→": "->",
  "Σ": "sum",
  "μ": "mu",
  "‖": "||",
}


def use() -> None:
  """Makes standard output and errors take any text."""
  for stream in (sys.stdout, sys.stderr):
    reconfigure = getattr(stream, "reconfigure", None)
    # What somebody asked for stays, such as surrogateescape.
    if reconfigure and stream.errors in ("strict", "backslashreplace"):
      reconfigure(errors=HANDLER)


def _replace(error: UnicodeError) -> tuple[str, int]:
  if not isinstance(error, UnicodeEncodeError):
    raise error
  text = error.object[error.start : error.end]
  return "".join(map(_plain, text)), error.end


def _plain(char: str) -> str:
  name = unicodedata.name(char, "")
  if name.startswith(("BOX DRAWINGS", "BLOCK ELEMENT")):
    if "HORIZONTAL" in name and "VERTICAL" not in name:
      return "-" if "DOWN" not in name and "UP" not in name else "+"
    return "|" if name.endswith(" VERTICAL") else "+"
  return _SIGNS.get(char) or char.encode("ascii", "backslashreplace").decode()


codecs.register_error(HANDLER, _replace)
