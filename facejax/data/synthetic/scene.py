"""What surrounds a generated face: the scene, the dress, light and camera.

Arguments as in `synthetic_face`.
"""

import math
import types

import numpy as np

from facejax.data.synthetic import face as synthetic_face
from facejax.data.synthetic import shape, traits

Picture = np.ndarray
Traits = types.SimpleNamespace

paint = synthetic_face.paint
ramp = shape.ramp

_GRAIN = 5


def backdrop(rng: np.random.Generator, height: int, width: int) -> Picture:
  """A defocused scene: a few coloured patches, bilinearly enlarged."""
  tint = 0.65 * rng.random((3, 1, 1), np.float32)
  tint = tint + 0.35 * rng.random((3, _GRAIN, _GRAIN), np.float32)
  patches = tint * rng.random((1, _GRAIN, _GRAIN), np.float32)
  patches *= 1.2 * rng.random(dtype=np.float32)

  def enlarge(size: int) -> np.ndarray:
    at = np.linspace(0.0, _GRAIN - 1.0, size, dtype=np.float32)[:, None]
    nodes = np.arange(_GRAIN, dtype=np.float32)
    return np.maximum(1.0 - abs(at - nodes), 0.0)

  return enlarge(height) @ patches @ enlarge(width).T


def bust(
  rgb: Picture, at: shape.Surface, face: Traits, view: Traits
) -> np.ndarray:
  """Hair behind the head, neck and shoulders; returns their coverage."""
  turned = math.sin(view.yaw)
  puff = face.hair_volume * view.hair_puff
  a, b = face.head_width + 0.8 * puff, face.head_height + puff
  hang = max(face.hair_length, 0.1 * b)
  down = np.where(at.y < 0.0, at.y * (1.0 / b), at.y * (1.0 / hang))
  radius = shape.length((at.x + 0.18 * turned) * (1.0 / a), down)
  hair = ramp(1.0 - radius, 1.5 * at.pixel / a)
  rgb[:] = face.hair * 0.7

  neck = ramp(view.neck - abs(at.x + 0.1 * turned), at.pixel)
  neck *= ramp(at.y - 0.3, at.pixel)
  paint(rgb, neck, face.skin * 0.6)
  cloth = ramp(at.y - view.shoulder - 0.25 * at.x * at.x, at.pixel)
  paint(rgb, cloth, view.cloth)
  return np.maximum(np.maximum(hair, neck), cloth)


def hat(rgb: Picture, at: shape.Surface, view: Traits) -> None:
  """A cap over head and hair, with a darker band above the brows."""
  if view.hat <= 0:
    return
  edge = -0.2 * at.u * at.u
  edge -= at.v + 0.50
  paint(rgb, ramp(edge, 1.5 * at.pixel), view.cloth * 1.3)
  band = ramp(0.05 - abs(edge - 0.05), 1.5 * at.pixel)
  paint(rgb, band, view.cloth * 0.5)


def clutter(rgb: Picture, at: shape.Surface, view: Traits) -> None:
  """The edge of a cast shadow, and something before the face, if any."""
  if view.shadow > 0:
    across, _ = _turned(at, view.shadow_angle)
    rgb *= 1.0 - view.shadow * ramp(across - view.shadow_offset, 0.12)
  if view.occluder > 0:
    across, along = _turned(at, view.occluder_angle)
    across -= along * along * (2.0 * view.occluder_round)
    mask = ramp(across - view.occluder_reach, 2.0 * at.pixel)
    paint(rgb, mask, view.occluder_colour)


def _turned(at: shape.Surface, angle: float) -> tuple[np.ndarray, np.ndarray]:
  c, s = math.cos(angle), math.sin(angle)
  return at.x * c + at.y * s, at.y * c - at.x * s


def photograph(
  rgb: Picture, view: Traits, rng: np.random.Generator
) -> np.ndarray:
  """Exposes the scene: light's colour, defocus, noise, gamma 2, eight bits.

  Returns:
    uint8 RGB [height, width, 3].
  """
  red, green = view.warmth, view.green
  gain = traits.colour(math.exp(red), math.exp(green), math.exp(-red))
  rgb *= gain * 2.0**view.exposure
  rgb = _defocus(rgb, 0.5 * min(rgb.shape[1:]) * view.blur)
  grey = rgb.mean(0)
  rgb -= grey
  rgb *= view.saturation
  rgb += grey
  np.maximum(rgb, 0.0, out=rgb)
  np.sqrt(rgb, out=rgb)
  # Uniform noise, of standard deviation 1/sqrt(12), costs a quarter of normal.
  noise = rng.random(rgb.shape, np.float32)
  noise -= 0.5
  noise *= view.noise * math.sqrt(12.0)
  rgb += noise
  rgb *= 255.0
  np.clip(rgb, 0.0, 255.0, out=rgb)
  return np.ascontiguousarray(rgb.astype(np.uint8).transpose(1, 2, 0))


def _defocus(rgb: Picture, sigma: float) -> Picture:
  """Gaussian blur by sigma pixels, the picture's edges repeated."""
  reach = math.ceil(2.0 * sigma - 0.2)
  if reach < 1:
    return rgb
  taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
  taps = (taps / taps.sum()).tolist()
  for axis in (1, 2):
    size = rgb.shape[axis]
    index = np.arange(-reach, size + reach).clip(0, size - 1)
    wide = np.moveaxis(rgb.take(index, axis), axis, 1)
    blurred = wide[:, reach : reach + size] * taps[reach]
    for k in range(reach):
      opposite = wide[:, k : k + size] + wide[:, 2 * reach - k :][:, :size]
      opposite *= taps[k]
      blurred += opposite
    rgb = np.moveaxis(blurred, 1, axis)
  return rgb
