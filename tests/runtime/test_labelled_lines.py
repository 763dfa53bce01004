"""A label before each line, however the output comes."""

import pytest

from facejax.runtime import labelled_lines

TEXT = b"one\n\ntwo\r\n 10 %|#  |\r 20 %|## |\r\n\r30 %\r40 %\n\xff\xc3\nno end"
EXPECTED = [
  b"one", b"", b"two", b" 10 %|#  |", b" 20 %|## |", b"30 %", b"40 %",
  b"\xff\xc3", b"no end",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_any_size(size):
  lines = labelled_lines.LabelledLines(b"[3] ")
  pieces = [TEXT[k : k + size] for k in range(0, len(TEXT), size)]
  found = b"".join(map(lines.feed, pieces)) + lines.rest()
  assert found == b"".join(b"[3] " + line + b"\n" for line in EXPECTED)
  assert lines.rest() == lines.feed(b"") == b""


def test_a_bar_is_shown_as_it_grows():
  lines = labelled_lines.LabelledLines(b"> ")
  assert lines.feed(b"10 %\r") == b"> 10 %\n"


def test_what_never_ends_a_line_is_not_kept_for_ever():
  lines = labelled_lines.LabelledLines(b"")
  piece, given, found = b"x" * 2**16, 0, 0
  for _ in range(100):
    given += len(piece)
    found += lines.feed(piece).count(b"x")
    assert given - found <= 2**20
  assert found + lines.rest().count(b"x") == given
