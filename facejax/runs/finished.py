"""What a training run leaves to those who use its net."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from facejax.runs import checkpoint
from facejax.training import state

_CHECKPOINTS = "checkpoints"
_RESULTS = pathlib.Path("report") / "metrics.json"


@dataclasses.dataclass(frozen=True)
class Threshold:
  """The cosine above which two images count as the same person.

  Attributes:
    cosine: the threshold.
    accuracy: what share of pairs it got right.
    pairs: on which pairs.
  """

  cosine: float
  accuracy: float
  pairs: str


def check(run: str | os.PathLike[str]) -> None:
  """Refuses a folder without checkpoints.

  Raises:
    FileNotFoundError: if it is none of a run, or the run has saved nothing.
  """
  if not os.path.isdir(os.path.join(run, _CHECKPOINTS)):
    raise FileNotFoundError(
      f"{os.fspath(run)!r} is not the folder of a trained net: it has no"
      f" {_CHECKPOINTS}/"
    )


def read_trunk(
  run: str | os.PathLike[str], like: state.Trunk
) -> tuple[int, state.Trunk]:
  """The net of a run, be it finished or not: its newest sound checkpoint.

  Args:
    run: the folder.
    like: the arrays that are wanted, as `ShapeDtypeStruct`s.

  Returns:
    After how many steps, and the net.

  Raises:
    FileNotFoundError: if there is no checkpoint.
    OSError: if none can be read.
    ValueError: if it is another net.
  """
  check(run)
  with checkpoint.Checkpoints(pathlib.Path(run) / _CHECKPOINTS) as source:
    restored = source.restore(like, partial=True)
  if restored is None:
    raise FileNotFoundError(
      f"{os.fspath(run)!r} has no checkpoint yet: train it first"
    )
  return restored.step, restored.state


def threshold(run: str | os.PathLike[str]) -> Threshold | None:
  """The threshold of a run's verification; None if it verified nothing.

  That chosen on a set of its own comes before the mean of those of the folds.

  Raises:
    ValueError: if the results are damaged.
  """
  path = pathlib.Path(run) / _RESULTS
  if not path.exists():
    return None
  try:
    results: dict[str, Any] = json.loads(path.read_text())["results"]
    for name, result in results.items():
      metrics = result["metrics"]
      given = metrics.get("given_threshold")
      if given is not None:
        accuracy = metrics["accuracy_at_given_threshold"]
        return Threshold(float(given), float(accuracy), name)
      return Threshold(
        float(metrics["threshold"]), float(metrics["accuracy"]), name
      )
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{path} is damaged ({error!r})") from None
  return None
