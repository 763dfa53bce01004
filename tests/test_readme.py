"""What the README tells people to do works as written."""

import re

import pytest
from helpers import paths

from facejax.training import recipe

ROOT = paths.ROOT
README = (ROOT / "README.md").read_text()


@pytest.mark.smoke
def test_python_example_runs():
  (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
  names = {}
  exec(code, names)
  assert names["output"].loss.shape == (8,)


def test_every_flag_and_recipe_exists(capsys):
  # Each loss has flags of its own.
  for path in recipe.installed():
    with pytest.raises(SystemExit):
      recipe.parse(["--config", path.name, "--help"])
  known = set(re.findall(r"--[a-z][a-z0-9.-]*", capsys.readouterr().out))
  text = README + "".join(p.read_text() for p in (ROOT / "docs").glob("*.md"))
  flags = set(
    re.findall(r"--(?:config|[a-z]+(?:\.[a-z-]+)+|dry-run)[a-z-]*", text)
  )
  assert len(flags) > 5
  assert flags <= known, flags - known
  # Those that a page writes itself are run by the test of that page.
  written = set(re.findall(r"^# (\w+\.py)$", text, flags=re.MULTILINE))
  for name in set(re.findall(r"--config (\w+\.py(?::\w+)?)", text)) - written:
    recipe.load(name)


def test_linked_files_exist():
  for here in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
    for link in re.findall(r"\]\(([^)#]+)", here.read_text()):
      assert (here.parent / link).exists(), f"{here.name}: {link}"
