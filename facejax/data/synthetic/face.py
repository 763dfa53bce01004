"""Paints the features of a generated face, each in a function of its own.

Every function takes the picture `rgb` (linear light, float32 [3, height,
width], painted in place), the surface `at` that its pixels see, the person
`face` and the photograph `view`. A shape is the distance inside its edge,
turned into soft coverage by `ramp`; what comes in pairs is drawn once, in
coordinates mirrored about the nose.
"""

import types

import numpy as np

from facejax.data.synthetic import shape, traits

Picture = np.ndarray
Traits = types.SimpleNamespace

_LASHES = traits.colour(0.02, 0.015, 0.012)
_EYE_WHITE = traits.colour(0.62, 0.58, 0.55)
_PUPIL = traits.colour(0.01, 0.01, 0.01)
_MOUTH_INSIDE = traits.colour(0.03, 0.01, 0.01)
_TEETH = traits.colour(0.60, 0.57, 0.50)


def paint(rgb: Picture, mask: np.ndarray, colour: np.ndarray) -> None:
  """Lays a colour, or a picture, over the image where the mask covers it."""
  layer = colour - rgb
  layer *= mask
  rgb += layer


def skin(
  rgb: Picture, at: shape.Surface, face: Traits, dark: Picture, red: Picture
) -> None:
  """Skin over the whole head, tinted as `shape.relief` says."""
  layer = face.skin * (1.0 - dark)
  layer[1:] *= 1.0 - red
  paint(rgb, at.head, layer)


def eyes(rgb: Picture, at: shape.Surface, face: Traits, view: Traits) -> None:
  """Lid crease, eyeball, iris, pupil and lashes."""
  side = abs(at.u)
  side -= face.eye_x
  side *= 1.0 / face.eye_width
  below = at.v - face.eye_y
  below += side * (face.eye_tilt * face.eye_width)
  bulge = 1.0 - side * side
  upper = below + bulge * (face.eye_upper * view.eye_open)
  lower = bulge * face.eye_lower - below

  crease = shape.ramp(0.018 - abs(upper + 0.022), 1.5 * at.pixel)
  crease *= np.maximum(bulge, 0.0)
  paint(rgb, crease * face.crease, face.skin * 0.35)
  ball = shape.ramp(np.minimum(upper, lower), at.pixel)
  paint(rgb, ball, _EYE_WHITE)

  across = np.sign(at.u) * (view.gaze_x / face.eye_width)
  across -= side
  across *= face.eye_width
  radius = shape.length(across, below - view.gaze_y)
  iris = shape.ramp(face.iris_size - radius, at.pixel)
  paint(rgb, iris * ball, face.iris)
  pupil = shape.ramp(0.42 * face.iris_size - radius, at.pixel)
  paint(rgb, pupil * ball, _PUPIL)
  lashes = shape.ramp(0.012 - abs(upper), 1.3 * at.pixel)
  lashes *= shape.ramp(bulge + 0.12, 0.3)
  paint(rgb, lashes * face.lash, _LASHES)


def brows(rgb: Picture, at: shape.Surface, face: Traits, view: Traits) -> None:
  """Eyebrows: an arch that thins outwards."""
  side = abs(at.u)
  side -= face.eye_x + face.brow_in
  side *= 1.0 / face.brow_width
  below = at.v - (face.eye_y - face.brow_gap - view.brow_raise)
  below += (1.0 - side * side) * face.brow_arch
  below -= side * (face.brow_slope + view.frown)
  inside = 1.0 - 0.35 * side
  inside *= face.brow_thick
  inside -= abs(below)
  mask = shape.ramp(inside, 1.8 * at.pixel)
  mask *= shape.ramp(1.0 - abs(side), 0.25)
  paint(rgb, mask * face.brow_dark, face.brow)


def nostrils(
  rgb: Picture, at: shape.Surface, face: Traits, view: Traits
) -> None:
  """Two dark ellipses below the tip of the nose, which the pose moves."""
  du, dv = shape.nose_shift(face, view)
  side = abs(at.u - 0.8 * du)
  side -= 0.55 * face.nose_width
  side *= 1.0 / (0.40 * face.nose_width)
  below = at.v - (face.nose_y + 0.8 * dv + 0.055)
  below *= 1.0 / 0.022
  mask = shape.ramp(1.0 - shape.length(side, below), at.pixel / 0.03)
  paint(rgb, mask * face.nostril, face.skin * 0.10)


def mouth(rgb: Picture, at: shape.Surface, face: Traits, view: Traits) -> None:
  """Lips with their bow, and an opening with teeth."""
  side = at.u * (1.0 / (face.mouth_width * (1.0 + 0.22 * view.smile)))
  corner = side * side
  below = at.v - (face.nose_y + face.mouth_gap)
  below += corner * (face.mouth_curve + 0.07 * view.smile)
  bulge = 1.0 - corner
  gape = 0.14 * max(view.gape, 0.0)
  bow = np.maximum(1.0 - 3.0 * abs(side), 0.0)
  upper = below + bulge * (1.0 - face.bow * bow) * face.lip_upper
  lower = bulge * (face.lip_lower + gape) - below
  lips = shape.ramp(np.minimum(upper, lower), at.pixel)
  tone = 0.22 * (face.lip_red + view.lipstick)
  tint = traits.colour(0.80, 0.55 - tone, 0.58 - tone)
  paint(rgb, lips, face.skin * tint * (1.0 - 0.35 * face.lip_dark))

  # The opening runs from the line of the closed mouth to the lower lip.
  inside = np.minimum(below, bulge * gape - below)
  inside += 0.01
  opening = shape.ramp(inside, at.pixel)
  opening *= shape.ramp(bulge + 0.05, 0.2)
  paint(rgb, opening * 0.85, _MOUTH_INSIDE)
  if gape > 0.02:
    teeth = shape.ramp(np.minimum(inside - 0.01, 0.06 - below), at.pixel)
    paint(rgb, teeth * 0.9, _TEETH)


def beard(rgb: Picture, at: shape.Surface, face: Traits, view: Traits) -> None:
  """Beard and moustache of those who have them, more or less shaved."""
  if face.beard > 0:
    side = at.u * (1.0 / face.head_width)
    edge = at.v - (face.beard_line + 0.25)
    edge += side * side * 0.75
    mask = shape.ramp(edge, 0.12)
    mask *= at.head
    mask *= min(0.25 + face.beard, 0.92) * view.unshaved
    paint(rgb, mask, face.hair * 0.8)
  if face.moustache > 0:
    side = at.u * (1.0 / (face.mouth_width + 0.03))
    side *= side
    below = at.v - (face.nose_y + face.mouth_gap - 0.085)
    below -= side * 0.06
    mask = shape.ramp(0.032 - abs(below), 0.03)
    mask *= shape.ramp(1.0 - side, 0.3)
    mask *= min(0.3 + face.moustache, 0.95) * view.unshaved
    paint(rgb, mask, face.hair * 0.8)


def hair(rgb: Picture, at: shape.Surface, face: Traits, view: Traits) -> None:
  """Hair on the front of the head: above the hairline and at the sides."""
  level = min(face.hairline + view.hair_fall, 0.0)
  top = at.u * at.u
  top *= face.hair_curve
  top += at.u * face.hair_part
  top += np.maximum(1.0 - 8.0 * abs(at.u), 0.0) * face.peak
  top += level
  top -= at.v
  # The sides end at the jaw, however long the hair hangs behind it.
  depth = face.hair_side + view.hair_fall
  sides = at.v * at.v
  sides *= -depth
  sides += depth
  sides -= at.front
  np.minimum(sides, min(face.hair_length, 0.5) + 0.1 - at.v, out=sides)
  mask = shape.ramp(np.maximum(top, sides), 2.0 * at.pixel)
  mask *= np.minimum(2.0 * at.head, 1.0)
  strands = at.u * 34.0
  strands += at.v * (20.0 * face.hair_curl)
  np.sin(strands, out=strands)
  strands *= 0.16 * face.hair_curl
  strands += 1.0
  paint(rgb, mask, face.hair * strands)


def ears(rgb: Picture, at: shape.Surface, face: Traits) -> np.ndarray:
  """Ears, unless hair hides them; returns their coverage."""
  cover = np.zeros_like(at.head)
  if face.hair_length > face.ear_y and face.hair_side > 0.12:
    return cover
  a, b, size = face.head_width, face.head_height, face.ear_size
  for side in (-1.0, 1.0):
    x, y, z = (at.pose @ [side, face.ear_y / b, -0.05]).tolist()
    across = (at.x - x * (a + 0.3 * size)) * (2.0 / size)
    down = (at.y - y * b) * (1.0 / size)
    mask = shape.ramp(1.0 - shape.length(across, down), at.pixel / size)
    if z < 0.1:
      mask *= 1.0 - at.head
    paint(rgb, mask, face.skin * 0.75)
    np.maximum(cover, mask, out=cover)
  return cover


def glasses(
  rgb: Picture, at: shape.Surface, face: Traits, view: Traits
) -> None:
  """The frames of those who wear them, now and then taken off."""
  if face.glasses <= 0 or view.glasses_on <= 0:
    return
  size = face.glasses_size
  side = abs(at.u)
  side -= face.eye_x + 0.01
  side *= 1.0 / size
  below = at.v - (face.eye_y + 0.02)
  below *= 1.25 / size
  power = 4.0 - 3.0 * face.glasses_round
  radius = (side * side) ** power + (below * below) ** power
  radius **= 0.5 / power
  rim = 0.09 + 0.05 * face.glasses - abs(radius - 1.0)
  mask = shape.ramp(rim, at.pixel / size)
  bridge = shape.ramp(0.016 - abs(at.v - face.eye_y + 0.02), at.pixel)
  bridge *= shape.ramp(face.eye_x - size - abs(at.u), at.pixel)
  np.maximum(mask, bridge, out=mask)
  mask *= at.head
  tone = 0.02 + 0.25 * face.glasses * face.glasses_round
  paint(rgb, mask, traits.colour(tone, 0.7 * tone, 0.6 * tone))
