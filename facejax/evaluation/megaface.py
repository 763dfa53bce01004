"""MegaFace: probes find their mates among 10 … a million distractors.

Smaller sets of distractors lie within larger ones: a seed draws the order. The
figures are those of `facejax.metrics.distractors`.
"""

from collections.abc import Sequence

import numpy as np

from facejax.data import refined
from facejax.evaluation import crowds, overlap, protocols
from facejax.metrics import distractors as metrics
from facejax.runs import embedder, results

_FARS = {f"1e-{k}": 10.0**-k for k in range(6, 0, -1)}
_KEPT = 1 << 19  # scores of distractors that are held at most
_WILSON = "interval: Wilson's, which takes trials as independent;"


def searched(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  *,
  distractors: str,
  leave_out: Sequence[str] = (),
  seed: int = 0,
) -> results.Result:
  """Rank-1 by the number of distractors, and TAR at FAR among all of them.

  Args:
    model: the net.
    options: see there; `path` has the probes, a folder a person, a list or a
      file of embeddings.
    distractors: strangers: a folder, a list or a file of embeddings.
    leave_out: lists of images that do not take part, see `refined`.
    seed: of the order of the distractors.
  """
  left_out = refined.RefinedList(leave_out)
  strangers = crowds.distractors(model, options, distractors, left_out)
  probes = crowds.probes(model, options, left_out)
  index, scores = metrics.trials(probes.vectors, probes.people)
  sizes, found = _compared(probes.vectors, strangers, seed)
  ranks = _ranks(sizes, found, index, scores)
  names = [str(probes.names[k]) for k in np.unique(probes.people).tolist()]
  text, warn = overlap.of_people(
    overlap.trained_on(model.run, options.seen), names
  )
  notes = [] if warn else [f"{text}."]
  warnings = [f"{text}."] if warn else []
  warnings += [f"{one.about}." for one in (probes, strangers) if one.about]
  if len(left_out):
    notes.append(f"{_left_out(left_out)}.")
  if _FARS["1e-6"] * found[-1].pairs < 1:
    warnings.append(
      f"{found[-1].pairs:,} comparisons with distractors do not resolve FAR 1e-6"
    )
  data = {
    "probes": options.path,
    "distractors": distractors,
    "left out": ", ".join(leave_out),
    "fingerprint of the probes": probes.fingerprint,
    "fingerprint of the distractors": strangers.fingerprint,
  }
  rates = [quantity.value for quantity in ranks]
  return results.Result(
    name=options.name,
    protocol="megaface",
    about=f"{len(probes.people):,} probes of {len(names):,} people,"
    f" {len(scores):,} trials, {sizes[-1]:,} distractors",
    quantities=[ranks[-1], *_rates(found[-1], index, scores), *ranks[:-1]],
    warnings=warnings,
    notes=notes,
    curves={"distractors": {"count": sizes, "rate": rates}},
    step=model.step,
    data={name: value for name, value in data.items() if value},
  )


def sizes_of(count: int) -> list[int]:
  """10, 100 … and all of them.

  >>> sizes_of(1000), sizes_of(2500), sizes_of(7)
  ([10, 100, 1000], [10, 100, 1000, 2500], [7])
  """
  powers = [10**k for k in range(1, 10) if 10**k < count]
  return [*powers, count]


def _compared(
  probes: np.ndarray, strangers: crowds.Distractors, seed: int
) -> tuple[list[int], list[metrics.Strangers]]:
  """Sizes, and what strangers score in the first so many of a drawn order."""
  count = int(strangers.kept.sum())
  sizes = sizes_of(count)
  place = np.random.default_rng(seed).permutation(count)
  # Distractors that each size has beside those of the size before.
  band = np.searchsorted(sizes, place, side="right")
  keep = int(min(_FARS["1e-1"] * len(probes) * count + 1, _KEPT))
  first = metrics.Crowd(probes, keep=keep)
  parts = [first, *(first.another() for _ in sizes[1:])]
  start = 0
  for block in strangers.blocks():
    mine = band[start : start + len(block)]
    start += len(block)
    for k in np.unique(mine):
      parts[k].add(block[mine == k])
  found = [parts[0].strangers()]
  for part in parts[1:]:
    found.append(found[-1] + part.strangers())
  return sizes, found


def _ranks(
  sizes: Sequence[int],
  found: Sequence[metrics.Strangers],
  index: np.ndarray,
  scores: np.ndarray,
) -> list[results.Quantity]:
  note = (
    "each ordered pair (probe, mate) of one person is a trial, right where the"
    " mate scores above every distractor; ties count against it; cosine, image"
    f" and mirror image summed; {_WILSON}"
  )
  return [
    results.of_rate(
      f"rank_1_of_{size}",
      f"Rank-1 among {size:,}",
      metrics.of_trials(index, scores, strangers, far=0).rank_one,
      note,
    )
    for size, strangers in zip(sizes, found, strict=True)
  ]


def _rates(
  strangers: metrics.Strangers, index: np.ndarray, scores: np.ndarray
) -> list[results.Quantity]:
  out = []
  for name, far in _FARS.items():
    if not 1 <= far * strangers.pairs < strangers.keep:
      continue
    one = metrics.of_trials(index, scores, strangers, far=far)
    note = (
      f"trials against {strangers.pairs:,} scores of every probe with every"
      f" distractor; largest TAR with FAR not above, no interpolation:"
      f" {one.far.successes:,} pass at cosine {one.threshold:.4f}; {_WILSON}"
    )
    out.append(
      results.of_rate(f"tar_at_far_{name}", f"TAR at FAR {name}", one.tar, note)
    )
  return out


def _left_out(listed: refined.RefinedList) -> str:
  missing = listed.unmatched
  text = f"{len(listed) - len(missing):,} of {len(listed):,} listed images are left out"
  if missing:
    text += f"; of the others there is no image, such as {missing[0]}"
  return text
