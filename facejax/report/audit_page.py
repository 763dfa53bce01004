"""The sheet of an audit: its worst cases, for a browser offline."""

import pathlib
from collections.abc import Sequence
from typing import Any

from facejax.report import pages
from facejax.runtime import whole_files

PAGE = "audit.html"


def write(
  folder: pathlib.Path,
  *,
  data: str,
  run: str,
  count: str,
  sections: Sequence[Any],
) -> pathlib.Path:
  """Writes audit.html, with all pictures in it.

  Args:
    folder: there already.
    data: what was judged.
    run: by what.
    count: how many images of how many people.
    sections: title, lead and cases each; a case is a caption and sides, a side
      a title and faces, a face a name and an image.
  """
  page = pages.environment().get_template("audit.html.jinja")
  text = page.render(
    data=data, run=run, count=count, sections=sections, style=pages.style()
  )
  path = folder / PAGE
  whole_files.write(path, text)
  return path
