"""Grouping embeddings of length 1 by person, without knowing any."""

import warnings
from typing import Any, Literal

import jax
import numpy as np
from scipy import sparse
from scipy.cluster import hierarchy
from scipy.sparse import csgraph

from facejax.runtime import extras
from facejax.vectors import nearest

Linkage = Literal["average", "complete", "single"]

# All distances of this many take 1.6 GB.
MOST_AT_ONCE = 20_000


def components(
  vectors: np.ndarray,
  *,
  threshold: float,
  neighbours: int = 20,
  mesh: jax.sharding.Mesh | None = None,
) -> np.ndarray:
  """Connected components of the graph of near neighbours.

  Two images are joined when one is among the nearest neighbours of the other
  and their cosine is at least the threshold; whoever hangs together is one
  person. Takes millions of images; a threshold that is too low makes one person
  of many.

  Args:
    vectors: float32 [n, dim], of length 1.
    threshold: cosine in [-1, 1].
    neighbours: how many of each image's nearest are looked at.
    mesh: the devices; all of them if not given.

  Returns:
    int [n], the cluster of each image, the largest first; see `ordered`.

  >>> a = np.float32([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8]])
  >>> components(a, threshold=0.9).tolist()
  [1, 2, 0, 0]
  """
  count = len(vectors)
  search = nearest.Nearest(vectors, mesh=mesh)
  found = search(vectors, min(neighbours + 1, count))
  own = np.arange(count)[:, None]
  one, other = np.nonzero((found.rows != own) & (found.scores >= threshold))
  edges = (np.ones(len(one), bool), (one, found.rows[one, other]))
  graph = sparse.coo_array(edges, shape=(count, count))
  return ordered(csgraph.connected_components(graph, directed=False)[1])


def agglomerative(
  vectors: np.ndarray, *, threshold: float, linkage: Linkage = "average"
) -> np.ndarray:
  """Merges the two nearest clusters until none are near, by SciPy.

  Args:
    vectors: [n, dim], of length 1; n up to 20,000, as all distances are held.
    threshold: cosine below which clusters stay apart.
    linkage: how near two clusters are: the mean of the cosines of their images
      ("average"), the least ("complete") or the greatest ("single").

  Returns:
    int [n], the cluster of each image, the largest first.

  Raises:
    ValueError: for more images.
  """
  if len(vectors) > MOST_AT_ONCE:
    raise ValueError(
      f"{len(vectors):,} images are more than the {MOST_AT_ONCE:,} that"
      " agglomerative clustering can hold all distances of: use components"
    )
  if len(vectors) < 2:
    return np.zeros(len(vectors), int)
  merges = hierarchy.linkage(
    np.asarray(vectors, np.float64), method=linkage, metric="cosine"
  )
  # A cosine that is the threshold itself still counts.
  nearest_apart = np.nextafter(1 - threshold, 3)
  found = hierarchy.fcluster(merges, nearest_apart, criterion="distance")
  return ordered(found)


def halves(vectors: np.ndarray) -> np.ndarray:
  """The two clusters that Ward's method merges last, 0 for the larger.

  Args:
    vectors: [n, dim], n from 2 to 20,000.

  Returns:
    int [n], 0 or 1.

  References:
    Ward, Hierarchical grouping to optimize an objective function, 1963.
  """
  merges = hierarchy.linkage(np.asarray(vectors, np.float64), method="ward")
  return ordered(hierarchy.fcluster(merges, 2, criterion="maxclust"))


def hdbscan(
  vectors: np.ndarray, *, min_size: int = 2, threshold: float | None = None
) -> np.ndarray:
  """HDBSCAN by scikit-learn: clusters of any density; the rest are nobody's.

  Args:
    vectors: [n, dim], of length 1.
    min_size: fewest images of a cluster, at least 2.
    threshold: cosine from which on clusters are not split further; none if not
      given.

  Returns:
    int [n], the cluster of each image, the largest first; -1 for nobody's.

  Raises:
    ImportError: without scikit-learn.
  """
  if len(vectors) < max(min_size, 2):
    return np.full(len(vectors), -1)
  # Of vectors of length 1 the squared distance is 2 - 2 cos.
  apart = 0.0 if threshold is None else float(np.sqrt(2 - 2 * threshold))
  method = _cluster_of_sklearn().HDBSCAN(
    min_cluster_size=min_size, cluster_selection_epsilon=apart, copy=True
  )
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    return ordered(method.fit_predict(vectors))


def ordered(labels: np.ndarray) -> np.ndarray:
  """Numbers clusters by size, of equal ones by their first image; -1 stays.

  >>> ordered(np.array([7, 3, -1, 3, 5])).tolist()
  [1, 0, -1, 0, 2]
  """
  found, first, which, sizes = np.unique(
    labels, return_index=True, return_inverse=True, return_counts=True
  )
  order = np.lexsort((first, -sizes, found < 0))
  rank = np.empty(len(found), int)
  rank[order] = np.arange(len(found))
  rank[found < 0] = -1
  return rank[which]


def _cluster_of_sklearn() -> Any:
  with extras.needed():
    from sklearn import cluster
  return cluster
