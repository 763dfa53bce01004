"""A label before each line of an output that comes in pieces."""

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
# What never ends a line is cut into lines of this length at least.
_LONGEST = 2**20


class LabelledLines:
  r"""Makes labelled lines of pieces, which may end anywhere.

  A bar that is drawn over itself (`\r`) becomes a line for each state of it, so
  that it writes over no label. Bytes are passed on as they are.

  >>> lines = LabelledLines(b"[0] ")
  >>> lines.feed(b"one\ntw"), lines.feed(b"o\r\n"), lines.feed(b"\r10 %\r20")
  (b'[0] one\n', b'[0] two\n', b'[0] 10 %\n')
  >>> lines.rest()
  b'[0] 20\n'
  """

  def __init__(self, label: bytes):
    self._label = label
    self._begun = b""
    self._after_return = False

  def feed(self, piece: bytes) -> bytes:
    """Takes a piece; the lines that it completes, labelled."""
    if not piece:
      return b""
    if self._after_return:
      # The other half of \r\n.
      piece = piece.removeprefix(b"\n")
    self._after_return = piece.endswith(b"\r")
    text = self._begun + piece
    begin, found = 0, []
    for end in _LINE_END.finditer(text):
      line = text[begin : end.start()]
      # A bar begins with \r as often as it ends with it.
      if line or end[0] != b"\r":
        found += [self._label, line, b"\n"]
      begin = end.end()
    self._begun = text[begin:]
    if len(self._begun) >= _LONGEST:
      found.append(self.rest())
    return b"".join(found)

  def rest(self) -> bytes:
    """The line that was begun and not ended, if any, as a whole one."""
    begun, self._begun = self._begun, b""
    return self._label + begun + b"\n" if begun else b""
