"""Vision transformers for faces, as InsightFace trains them.

Patches of 9x9 pixels without a class token; after the blocks all tokens are
flattened into one vector, which two linear layers with BatchNorm make the
embedding of. In training some tokens can be left out: the blocks do not see
them, and a learnt token stands in their place before the head.

References:
  Dosovitskiy et al., An Image is Worth 16x16 Words, 2021.
  He et al., Masked Autoencoders Are Scalable Vision Learners, 2022
    (`mask_ratio`).
  Huang et al., Deep Networks with Stochastic Depth, 2016 (`drop_path`).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax.models import batch_norm, layers, masking, torch_names, trunk
from facejax.runtime import typing

_HEAD_EPSILON = 2e-5
_NORMAL = nnx.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class ViTSpec:
  """Size of one member of the family.

  Attributes:
    dim: of the tokens.
    depth: number of blocks.
    heads: of the attention.
    patch: side of a patch in pixels.
    mlp_ratio: numbers within the mlp of a block for each of a token.
    drop_path: rate of stochastic depth at the last block, 0 at the first;
      published with 0.1, and with 0.05 on the largest set.
    mask_ratio: share of the tokens left out in training; published with 0
      and 0.1.
    remat: compute blocks again in the backward pass.
  """

  dim: int
  depth: int
  heads: int = 8
  patch: int = 9
  mlp_ratio: int = 4
  drop_path: float = 0.0
  mask_ratio: float = 0.0
  remat: bool = False


NETS = {
  # For CPUs and small images: 36 tokens of 48x48 pixels.
  "vit_micro": ViTSpec(128, 4, heads=4, patch=8),
  "vit_t": ViTSpec(256, 12),
  "vit_s": ViTSpec(512, 12),
  "vit_b": ViTSpec(512, 24),
  "vit_l": ViTSpec(768, 24),
  "vit_h": ViTSpec(1024, 48),
  # The two of CVLface.
  "vit_s_p8": ViTSpec(512, 12, patch=8, mlp_ratio=5),
  "vit_b_p8": ViTSpec(512, 24, heads=16, patch=8, mlp_ratio=3),
}


def _linear(
  inputs: int, outputs: int, *, bias: bool, rngs: nnx.Rngs, dtype: Any = None
) -> nnx.Linear:
  return nnx.Linear(
    inputs,
    outputs,
    use_bias=bias,
    kernel_init=_NORMAL,
    rngs=rngs,
    dtype=dtype,
  )


@jax.custom_vjp
def _scores(q: typing.Array, k: typing.Array) -> typing.Array:
  """q k^T, [batch, heads, tokens, tokens], summed in float32 at least.

  Its gradient is rounded to the type of q and k: left in float32, it would make
  the products of the backward pass float32 ones on accelerators.
  """
  wide = jnp.promote_types(q.dtype, jnp.float32)
  return jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=wide)


def _scores_forward(q, k):
  return _scores(q, k), (q, k)


def _scores_backward(residuals, d_scores):
  q, k = residuals
  d_scores = d_scores.astype(q.dtype)
  return (
    jnp.einsum("bhqk,bkhd->bqhd", d_scores, k),
    jnp.einsum("bhqk,bqhd->bkhd", d_scores, q),
  )


_scores.defvjp(_scores_forward, _scores_backward)


class Attention(nnx.Module):
  """softmax(q k^T / sqrt(d)) v, with the softmax in float32 at least."""

  def __init__(self, spec: ViTSpec, *, rngs: nnx.Rngs, dtype: Any):
    dim, self.heads = spec.dim, spec.heads
    self.qkv = _linear(dim, 3 * dim, bias=False, rngs=rngs, dtype=dtype)
    self.proj = _linear(dim, dim, bias=True, rngs=rngs, dtype=dtype)

  def __call__(self, x: typing.Array) -> typing.Array:
    batch, tokens, dim = x.shape
    qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1)
    q, k, v = jnp.moveaxis(qkv, 2, 0)
    logits = _scores(q, k)
    weights = jax.nn.softmax(logits / math.sqrt(dim // self.heads))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)
    return self.proj(mixed.reshape(batch, tokens, dim))


class TransformerBlock(nnx.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)), with ReLU6 in the mlp."""

  def __init__(
    self, spec: ViTSpec, *, drop_rate: float, rngs: nnx.Rngs, dtype: Any
  ):
    dim, hidden = spec.dim, spec.mlp_ratio * spec.dim
    options: Any = {"rngs": rngs, "dtype": dtype}
    self.norm1 = nnx.LayerNorm(dim, epsilon=1e-5, **options)
    self.attention = Attention(spec, **options)
    self.norm2 = nnx.LayerNorm(dim, epsilon=1e-5, **options)
    self.fc1 = _linear(dim, hidden, bias=True, **options)
    self.fc2 = _linear(hidden, dim, bias=True, **options)
    self.drop_rate = drop_rate

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None
  ) -> typing.Array:
    keys = (None, None) if key is None else jax.random.split(key)
    y = self.attention(self.norm1(x))
    x = x + trunk.drop_path(y, rate=self.drop_rate, key=keys[0])
    y = self.fc2(jax.nn.relu6(self.fc1(self.norm2(x))))
    return x + trunk.drop_path(y, rate=self.drop_rate, key=keys[1])


class ViT(trunk.Net):
  """Images [batch, height, width, 3] to embeddings [batch, dim] in float32.

  Args:
    spec: sizes; `NETS` holds the published ones.
    embedding_dim: size of the embedding.
    image_size: (height, width); what is left over of the last patches at the
      bottom and at the right is not used.
    dropout: rate before the last linear layer.
    dtype: type of the blocks' arithmetic; softmax, the last LayerNorm, the
      linear layers of the head and the embeddings are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if the image is smaller than a patch.
  """

  def __init__(
    self,
    spec: ViTSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    check_image_size(spec, image_size)
    dim, patch = spec.dim, spec.patch
    tokens = num_tokens(image_size, patch)
    start = layers.symmetric_uniform(1 / math.sqrt(3 * patch**2))
    self.patches = nnx.Conv(
      3,
      dim,
      (patch, patch),
      strides=patch,
      padding="VALID",
      kernel_init=start,
      bias_init=start,
      rngs=rngs,
      dtype=dtype,
    )
    self.positions = nnx.Param(_NORMAL(rngs.params(), (1, tokens, dim)))
    rates = trunk.drop_rates(spec.drop_path, spec.depth)
    self.blocks = nnx.List(
      TransformerBlock(spec, drop_rate=rate, rngs=rngs, dtype=dtype)
      for rate in rates
    )
    self.mask_ratio, self.remat = spec.mask_ratio, spec.remat
    self.norm = nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)
    self.mask_token = nnx.Param(_NORMAL(rngs.params(), (1, 1, dim)))
    self.hidden = _linear(tokens * dim, dim, bias=False, rngs=rngs)
    self.hidden_bn = batch_norm.BatchNorm(dim, rngs=rngs, epsilon=_HEAD_EPSILON)
    self.dropout = nnx.Dropout(dropout)
    self.linear = _linear(dim, embedding_dim, bias=False, rngs=rngs)
    self.embedding_bn = batch_norm.BatchNorm(
      embedding_dim, rngs=rngs, epsilon=_HEAD_EPSILON
    )

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    x = self.patches(images)
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    x = x + self.positions[...].astype(x.dtype)
    key, masked = dropout_key, None
    if key is not None and self.mask_ratio:
      # 0 to depth - 1 are the blocks' keys, dropout's is the key itself.
      key_of_masks = jax.random.fold_in(key, len(self.blocks))
      x, masked = masking.mask(x, ratio=self.mask_ratio, key=key_of_masks)
    x = trunk.run(self.blocks, x, key=key, remat=self.remat)
    x = self.norm(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    if masked is not None:
      x = masking.unmask(x, masked, self.mask_token[...])
    x = self.hidden_bn(self.hidden(x.reshape(x.shape[0], -1)))
    x = self.dropout(x, deterministic=key is None, rngs=key)
    return self.linear(x)


def num_tokens(image_size: tuple[int, int], patch: int = 9) -> int:
  """Patches that fit in an image.

  >>> num_tokens((112, 112)), num_tokens((112, 96))
  (144, 120)
  """
  return math.prod(side // patch for side in image_size)


def check_image_size(spec: ViTSpec, image_size: tuple[int, int]) -> None:
  """Refuses images that no patch fits in.

  Raises:
    ValueError: if a side is below that of a patch.
  """
  if min(image_size) < spec.patch:
    raise ValueError(
      f"image_size {tuple(image_size)}: both sides must be at least {spec.patch},"
      " the side of a patch (112x112 as published)"
    )


def multiply_adds(
  spec: ViTSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of linear layers and attention for one image.

  >>> multiply_adds(NETS["vit_t"], embedding_dim=512, image_size=(112, 112))
  1504882688
  """
  tokens, dim = num_tokens(image_size, spec.patch), spec.dim
  block = (4 + 2 * spec.mlp_ratio) * tokens * dim**2 + 2 * tokens**2 * dim
  patches = tokens * 3 * spec.patch**2 * dim
  head = tokens * dim**2 + dim * embedding_dim
  return patches + spec.depth * block + head


def torch_layers(
  spec: ViTSpec, *, image_size: tuple[int, int]
) -> Iterator[torch_names.Layer]:
  """The layers under their names in arcface_torch and ours."""
  del image_size  # tokens are flattened in the same order
  layer = torch_names.Layer
  yield layer("pos_embed", ("positions",))
  yield layer("mask_token", ("mask_token",))
  yield layer("patch_embed.proj", ("patches",))
  for i in range(spec.depth):
    for torch, path in (
      ("norm1", ("norm1",)),
      ("attn.qkv", ("attention", "qkv")),
      ("attn.proj", ("attention", "proj")),
      ("norm2", ("norm2",)),
      ("mlp.fc1", ("fc1",)),
      ("mlp.fc2", ("fc2",)),
    ):
      yield layer(f"blocks.{i}.{torch}", ("blocks", i, *path))
  yield layer("norm", ("norm",))
  heads = ("hidden", "hidden_bn", "linear", "embedding_bn")
  for i, name in enumerate(heads):
    yield layer(f"feature.{i}", (name,))
