"""Losses that need all cosines at once, [batch, classes].

The compiler splits the table by class, as the prototypes are, so that a device
holds 4 * batch * classes / devices bytes of each array that the loss makes, and
the gradient of all prototypes beside them. For some hundred thousand classes;
what must have millions walks through them block by block (`sharded`).
"""

import jax
import jax.numpy as jnp

from facejax.head import objective as objective_lib
from facejax.head import reference
from facejax.losses import proxies
from facejax.runtime import typing, unit_vectors


def loss(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  table: objective_lib.Table,
  num_classes: int,
) -> objective_lib.HeadOutput:
  """The loss of a table of cosines.

  Args:
    prototypes: [rows, dim], or [rows, k, dim] for k centres a class; padding
      takes no part. (To cut it off would put all rows on every device.)
    embeddings: [batch, dim].
    labels: int [batch]; outside [0, num_classes) they name no class.
    table: see `Objective`.
    num_classes: how many of the rows are classes.
  """
  x = embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))
  units = unit_vectors.l2_normalize(x)
  classes = unit_vectors.l2_normalize(prototypes)
  form = "bd,cd->bc" if classes.ndim == 2 else "bd,ckd->bck"
  cosines = jnp.einsum(form, units, classes, precision=reference.PRECISION)
  values, similarity = table(cosines, classes, labels, classes=num_classes)
  own, other, _ = proxies.columns(labels, similarity.shape[1], num_classes)
  target = jnp.where(own, similarity, 0).sum(axis=1)
  nearest = jnp.where(other, similarity, -jnp.inf).max(axis=1)
  return objective_lib.HeadOutput(
    loss=values,
    target_cosine=jax.lax.stop_gradient(target),
    # Among equals nobody is nearest, as in the other heads.
    correct=own.any(axis=1) & (target > nearest),
    dropped=jnp.zeros_like(values),
  )
