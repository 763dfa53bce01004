"""How well images fall into people: clusters against labels, and angles."""

from typing import Literal, get_args

import numpy as np

from facejax.metrics import clustering as metrics
from facejax.metrics import diagnostics
from facejax.runs import results
from facejax.vectors import clustering

Quantity = results.Quantity
Method = Literal["agglomerative", "components"]
METHODS: tuple[str, ...] = get_args(Method)

_MOST_AT_ONCE = 5_000
_ANGLES = np.arange(5, 90, 2.5)
_HOW = {
  "agglomerative": "agglomerative, average linkage",
  "components": "connected components of the 20 nearest neighbours",
}


def usual_method(count: int) -> Method:
  """Agglomerative up to some thousand images, whose distances it holds."""
  return "agglomerative" if count <= _MOST_AT_ONCE else "components"


def clusters_at(
  vectors: np.ndarray, labels: np.ndarray, threshold: float, method: Method
) -> list[Quantity]:
  """Clusters at a cosine that was chosen elsewhere, against the people.

  Args:
    vectors: embeddings of length 1, float32 [images, dim].
    labels: the person of each, int [images].
    threshold: the cosine.
    method: how.
  """
  table = metrics.contingency(labels, _cluster(vectors, threshold, method))
  how = f"{_HOW[method]} at cosine {threshold:.4f}, chosen on other images"
  return _figures(table, "", "at the threshold given", how)


def clusters_cross_fitted(
  vectors: np.ndarray, labels: np.ndarray, method: Method, *, seed: int
) -> list[Quantity]:
  """Clusters of each half of the people at the best cosine of the other half.

  Other photographs than those of the verification may all lie closer together:
  its threshold says little of them.

  Args:
    vectors: embeddings of length 1, float32 [images, dim].
    labels: the person of each, int [images].
    method: how.
    seed: of the halves.
  """
  people = np.random.default_rng(seed).permutation(np.unique(labels))
  half = np.isin(labels, people[: len(people) // 2])
  cosines, tables = [], []
  for other, mine in ((~half, half), (half, ~half)):
    cosines.append(_best(vectors[other], labels[other], method))
    found = _cluster(vectors[mine], cosines[-1], method)
    # Clusters of one half are not those of the other.
    tables.append(metrics.contingency(labels[mine], 2 * found + len(tables)))
  how = (
    f"{_HOW[method]}; each half of the people at the cosine with the best"
    f" pairwise F of the other half ({cosines[0]:.3f} and {cosines[1]:.3f})"
  )
  name = "threshold of other people"
  return _figures(tables[0] + tables[1], "_cross_fitted", name, how)


def _best(vectors: np.ndarray, labels: np.ndarray, method: Method) -> float:
  def f(cosine: float) -> float:
    found = _cluster(vectors, cosine, method)
    return metrics.pairwise(metrics.contingency(labels, found)).f

  return max(np.cos(np.deg2rad(_ANGLES)).tolist(), key=f)


def _cluster(
  vectors: np.ndarray, threshold: float, method: Method
) -> np.ndarray:
  if method == "components":
    return clustering.components(vectors, threshold=threshold)
  return clustering.agglomerative(vectors, threshold=threshold)


def _figures(
  table: metrics.Contingency, suffix: str, name: str, how: str
) -> list[Quantity]:
  out = [
    _f("pairwise", metrics.pairwise(table), table, suffix, name, how),
    _f("bcubed", metrics.bcubed(table), table, suffix, name, how),
  ]
  for mean in ("arithmetic", "geometric"):
    value = metrics.normalized_mutual_information(table, mean=mean)
    note = f"mutual information over the {mean} mean of the entropies; as above"
    label = f"NMI, {mean}"
    out.append(
      Quantity(f"nmi_{mean}{suffix}", label, value, unit="", convention=note)
    )
  found, people = len(np.unique(table.clusters)), len(np.unique(table.people))
  rest = {
    "adjusted_rand_index": ("Adjusted Rand index", metrics.adjusted_rand_index(table), "", "agreement on pairs, 0 by chance; as above"),
    "purity": ("Purity", metrics.purity(table), "", "images of the most frequent person of their cluster; as above"),
    "clusters": ("Clusters", float(found), "#", f"of {people:,} people"),
  }  # fmt: skip
  for key, (label, value, unit, note) in rest.items():
    out.append(
      Quantity(f"{key}{suffix}", label, value, unit=unit, convention=note)
    )
  return out


def _f(
  rule: Literal["pairwise", "bcubed"],
  score: metrics.Score,
  table: metrics.Contingency,
  suffix: str,
  name: str,
  how: str,
) -> Quantity:
  ends = metrics.f_interval(table, rule=rule)
  note = f"{how}; precision {score.precision:.4f}, recall {score.recall:.4f};"
  note += " interval: bootstrap of people"
  label = {"pairwise": "Pairwise F", "bcubed": "BCubed F"}[rule]
  label = f"{label}, {name}"
  return Quantity(f"{rule}_f{suffix}", label, score.f, *ends, "", note)


def angles(vectors: np.ndarray, labels: np.ndarray) -> list[Quantity]:
  """Angles within and between people; none where nobody has two images."""
  people = np.unique(labels)
  if not 2 <= len(people) < len(labels):
    return []
  found = diagnostics.class_angles(vectors, labels)
  fisher = diagnostics.angular_fisher_score(vectors, labels)
  rows = [
    ("intra_angle", "Angle within a person", found.intra, "°", "mean over images to the centre of their person"),
    ("inter_angle", "Angle between people", found.inter, "°", "mean over people to the nearest other centre"),
    ("angular_fisher_score", "Angular Fisher score", fisher.score, "", "SphereFace's: scatter within over between, of embeddings at length 1; lower is better"),
  ]  # fmt: skip
  if len(labels) <= _MOST_AT_ONCE:
    worst = diagnostics.open_set_criterion(vectors, labels)
    note = f"smallest angle between people ({worst.smallest_inter:.1f}°) less"
    note += f" the largest within one ({worst.largest_intra:.1f}°)"
    note += "; above 0 one threshold decides all"
    rows.append(("open_set_margin", "Open-set margin", worst.margin, "°", note))
  return [
    Quantity(key, label, value, unit=unit, convention=note)
    for key, label, value, unit, note in rows
  ]
