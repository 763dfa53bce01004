"""Groups of the trunk's weights, which an optimizer treats apart.

Weights go by dotted names, such as `blocks.0.conv1.kernel`; the frozen and the
trained are told apart by a pattern, depth by the number of the block.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import optax

from facejax.models import lora

# What a net does to the image before its blocks; the rest comes after them.
_BEFORE = re.compile(r"stem|patches|positions|mask_token")
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def names(params: Any) -> list[str]:
  """Dotted names of all weights, in their order."""
  return jax.tree.leaves(_by_name(params, lambda name: name))


def kernels(params: Any) -> Any:
  """Which weights multiply features: not norms, slopes, biases, positions.

  A tree of booleans. These are what weight decay is left to by
  "Bag of Tricks for Image Classification with Convolutional Neural Networks"
  (He et al., 2019), and by most trainers of ViTs.
  """
  matrices = ("kernel", *lora.ADAPTERS)
  return _by_name(params, lambda name: _last(name) in matrices)


def freeze(
  tx: optax.GradientTransformation, pattern: str
) -> optax.GradientTransformation:
  """Trains what the pattern does not match; the rest stays, and costs no state.

  Norms are taken over what is trained alone.

  Args:
    tx: the optimizer of the rest.
    pattern: a regular expression, matched from the start of a name: `stem` is
      the stem with its norm, `blocks.[01][.]` the first two blocks; "" matches
      none. Of a net with adapters (`models.lora`) all but these is frozen, too.
  """

  def labels(params):
    trained = set(_trained(params, pattern))
    return _by_name(
      params, lambda name: "trained" if name in trained else "frozen"
    )

  return optax.partition({"trained": tx, "frozen": optax.set_to_zero()}, labels)


def by_depth(
  tx: optax.GradientTransformation, factor: float, *, last: int
) -> optax.GradientTransformation:
  """Learning rates that fall from the embedding to the image.

  With n blocks, block i = 0 … n - 1 has factor^(n - i) of the rate, what comes
  before them factor^(n + 1), what comes after them all of it.

  Args:
    tx: the optimizer; what it would add to the weights is scaled, its momentum
      is not.
    factor: in (0, 1]; 0.75 is usual for ViTs of 12 blocks.
    last: n, the `blocks` of the whole net, frozen ones among them.

  References:
    Clark et al., ELECTRA: Pre-training Text Encoders as Discriminators Rather
      Than Generators, 2020, Appendix A.
  """

  def scale(updates, params):
    del params
    return jax.tree.map(
      lambda depth, leaf: leaf * factor ** (last + 1 - depth),
      _by_name(updates, lambda name: _depth(name, last)),
      updates,
    )

  return optax.chain(tx, optax.stateless(scale))


def blocks(params: Any) -> int:
  """How many blocks a net has; 0 for a net that names none."""
  found = [_BLOCK.match(name) for name in names(params)]
  return max((int(each[1]) + 1 for each in found if each), default=0)


def check(params: Any, *, freeze: str, layer_decay: float) -> None:
  """Refuses a pattern that freezes nothing or all, and depth without blocks.

  Args:
    params: of the net, or their shapes.
    freeze: the pattern; "" for none.
    layer_decay: factor of the learning rate a block.

  Raises:
    ValueError: naming the option, and names that there are.
  """
  if layer_decay != 1 and not blocks(params):
    raise ValueError(
      f"optim.layer_decay={layer_decay:g}: this net's weights are not in"
      " numbered blocks; leave it at 1"
    )
  if not freeze:
    return
  try:
    re.compile(freeze)
  except re.error as error:
    raise ValueError(
      f"optim.freeze={freeze!r} is no regular expression: {error}"
    ) from None
  every, trained = _trained(params), _trained(params, freeze)
  if len(trained) in (0, len(every)):
    tops = sorted({name.partition(".")[0] for name in every})
    what = "no weight's name starts so" if trained else "all weights match"
    raise ValueError(
      f"optim.freeze={freeze!r}: {what}. Names are such as {every[0]}, and begin"
      f" with {', '.join(tops)}"
    )


def _trained(params: Any, pattern: str = "") -> list[str]:
  """Names of the weights that are trained, but for those that match."""
  every = names(params)
  # Of a net with adapters these alone.
  every = [n for n in every if _last(n) in lora.ADAPTERS] or every
  return [n for n in every if not (pattern and re.match(pattern, n))]


def _last(name: str) -> str:
  return name.rpartition(".")[2]


def _depth(name: str, last: int) -> int:
  if _BEFORE.match(name):
    return 0
  block = _BLOCK.match(name)
  return int(block[1]) + 1 if block else last + 1


def _by_name(params: Any, of: Callable[[str], Any]) -> Any:
  """A tree like it, each leaf made of its weight's name."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: of(jax.tree_util.keystr(path, simple=True, separator=".")),
    params,
  )
