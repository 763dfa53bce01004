"""A hash of 32-bit numbers, the same on every device."""

import jax.numpy as jnp

from facejax.runtime import typing


def mix(x: typing.Array) -> typing.Array:
  """Bijection of uint32 that spreads every bit over all others; 0 -> 0.

  References:
    Appleby, MurmurHash3, 2011 (its 32-bit finaliser).
  """
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
