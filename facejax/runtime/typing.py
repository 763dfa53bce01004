"""Names for the array types that signatures use."""

from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray
PRNGKey: TypeAlias = jax.Array
# A tree of nested plain dictionaries whose leaves are arrays.
Params: TypeAlias = Any
