"""The solid head of a generated face: pose, alignment, relief and shading.

A head is a unit sphere, stretched to the skull's width and height and pinched
towards the jaw. Every pixel looks straight at it; the point that it sees,
turned back by the pose, says which part of the face is there. Pictures are
float32 [height, width]; lengths and names as in `synthetic_traits`.
"""

import dataclasses
import math
import types

import numpy as np

# Where the aligner wants the eyes, the nose and the mouth: x + iy from the
# centre of the picture, in halves of its shorter side.
_TEMPLATE = np.array([-0.29 - 0.09j, 0.29 - 0.09j, 0.29j, 0.52j])


@dataclasses.dataclass(frozen=True)
class Surface:
  """What each pixel sees of the head.

  Attributes:
    x: where the pixel lies beside the upright head, to the right.
    y: the same, downwards.
    u: which part of the face is there, as seen from its front, to the right.
    v: the same, downwards.
    front: how far towards the face's own front that part lies, in -1..1.
    normal: the direction it faces in the picture's frame, [3, height, width].
    head: 1 inside the outline of the head, 0 outside.
    pixel: side of a pixel in half heads.
    pose: rotation of the head [3, 3].
  """

  x: np.ndarray
  y: np.ndarray
  u: np.ndarray
  v: np.ndarray
  front: np.ndarray
  normal: np.ndarray
  head: np.ndarray
  pixel: float
  pose: np.ndarray

  def band(self, level: float, reach: float) -> tuple[slice, "Surface"]:
    """The rows that see any of |v - level| < reach, and views of them."""
    near = np.flatnonzero((abs(self.v - level) < reach).any(1))
    rows = slice(near[0], near[-1] + 1) if len(near) else slice(0, 0)
    pictures = ("x", "y", "u", "v", "front", "normal", "head")
    cut = {name: getattr(self, name)[..., rows, :] for name in pictures}
    return rows, dataclasses.replace(self, **cut)


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
  """Coverage in 0..1 of a shape from the distance inside its edge."""
  mask = distance * (1.0 / width)
  mask += 0.5
  return np.clip(mask, 0.0, 1.0, out=mask)


def length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Length of the vectors (x, y); a third of the cost of `np.hypot`."""
  squares = x * x
  squares += y * y
  return np.sqrt(squares, out=squares)


def surface(
  face: types.SimpleNamespace,
  view: types.SimpleNamespace,
  height: int,
  width: int,
) -> Surface:
  """Poses and aligns the head, and casts a ray at it through every pixel."""
  pose = _rotation(view)
  scale, shift = _align(face, view, pose)
  half = 0.5 * min(height, width)
  rows = (np.arange(height) - 0.5 * (height - 1)) / half - shift.imag
  columns = (np.arange(width) - 0.5 * (width - 1)) / half - shift.real
  rows, columns = 1j * rows / scale, columns / scale
  x = np.add.outer(rows.real, columns.real).astype(np.float32)
  y = np.add.outer(rows.imag, columns.imag).astype(np.float32)
  pixel = 1.0 / (abs(scale) * half)

  a, b = face.head_width, face.head_height
  ny = y * (1.0 / b)
  nx = x / (a * _pinch(face, ny))
  radius = nx * nx + ny * ny
  nz = np.sqrt(np.maximum(1.0 - radius, 0.0))
  head = ramp(1.0 - np.sqrt(radius), pixel / a)
  normal = np.stack([nx, ny, nz])
  back = (pose.T * [[a], [b], [1.0]]).astype(np.float32)
  u, v, front = np.einsum("ij,jhw->ihw", back, normal)
  return Surface(x, y, u, v, front, normal, head, pixel, pose)


def _rotation(view: types.SimpleNamespace) -> np.ndarray:
  """Yaw about the vertical axis, then pitch about the horizontal one."""
  cy, sy = math.cos(view.yaw), math.sin(view.yaw)
  cp, sp = math.cos(view.pitch), math.sin(view.pitch)
  turn = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
  nod = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
  return nod @ turn


def _pinch(face: types.SimpleNamespace, y: np.ndarray) -> np.ndarray:
  """Width of the head against an ellipse's at height y, in head radii."""
  jaw = np.maximum(y, 0.0)
  jaw *= jaw
  jaw *= face.jaw
  jaw += y * face.taper
  jaw += 1.0
  return jaw


def _align(
  face: types.SimpleNamespace, view: types.SimpleNamespace, pose: np.ndarray
) -> tuple[complex, complex]:
  """Places the face as an aligner would, with the error that it would leave.

  Returns:
    (scale, shift), complex, such that picture = scale * head + shift: the
    least-squares similarity onto the template, disturbed.
  """
  mouth = face.nose_y + face.mouth_gap
  u = np.array([-face.eye_x, face.eye_x, 0.0, 0.0]) / face.head_width
  v = np.array([face.eye_y, face.eye_y, face.nose_y, mouth]) / face.head_height
  depth = np.sqrt(np.maximum(1.0 - u * u - v * v, 0.0))
  lift = 1.0 + np.array([0.0, 0.0, face.nose_tip, 0.03])
  x, y, _ = pose @ (np.stack([u, v, depth]) * lift)
  points = face.head_width * x * _pinch(face, y) + 1j * face.head_height * y
  centred = points - points.mean()
  scale = np.vdot(centred, _TEMPLATE) / np.vdot(centred, centred)
  scale *= (1.0 + view.zoom) * np.exp(1j * view.roll)
  shift = _TEMPLATE.mean() - scale * points.mean()
  return complex(scale), complex(shift) + complex(view.shift_x, view.shift_y)


def nose_shift(
  face: types.SimpleNamespace, view: types.SimpleNamespace
) -> tuple[float, float]:
  """How far the pose moves the tip of the nose across the face, (u, v)."""
  return (
    face.nose_tip * face.head_width * math.tan(view.yaw),
    -face.nose_tip * face.head_height * math.tan(view.pitch),
  )


def relief(
  face: types.SimpleNamespace, view: types.SimpleNamespace, at: Surface
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The flesh on the skull, a sum of Gaussian hills with their colour.

  Returns:
    (height in half heads, darkness, redness): the last two are the share of
    all light, and of green and blue, that the skin swallows.
  """
  hills = np.array(_hills(face, view))
  u0, v0, su, sv, angle = hills[:, :5].T
  c, s = np.cos(angle), np.sin(angle)
  uu = 0.5 * ((c / su) ** 2 + (s / sv) ** 2)
  vv = 0.5 * ((s / su) ** 2 + (c / sv) ** 2)
  uv = c * s * (1.0 / su**2 - 1.0 / sv**2)
  one = uu * u0**2 + uv * u0 * v0 + vv * v0**2
  u1, v1 = -2.0 * uu * u0 - uv * v0, -2.0 * vv * v0 - uv * u0
  quadratic = -np.stack([one, u1, v1, uu, uv, vv], 1).astype(np.float32)
  u, v = at.u, at.v
  basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], 1)
  # One small product a row: BLAS would spread a large one over threads, which
  # the trainer needs more.
  bells = quadratic @ basis
  np.exp(bells, out=bells)
  sums = hills[:, 5:].T.astype(np.float32) @ bells
  return sums[:, 0], sums[:, 1], sums[:, 2]


def _hills(
  face: types.SimpleNamespace, view: types.SimpleNamespace
) -> list[tuple[float, ...]]:
  """Rows of (u, v, sigma u, sigma v, angle, height, darkness, redness)."""
  f, smile = face, max(view.smile, 0.0)
  eye, mouth = f.eye_y, f.nose_y + f.mouth_gap
  fold = f.fold + 0.04 * smile
  pairs = [
    (0.22, eye - 0.13, 0.17, 0.06, 0.15, f.ridge, 0.0, 0.0),
    (f.eye_x, eye, 0.13, 0.08, 0.0, -f.socket, 0.9 * f.socket, 0.5 * f.bag),
    (f.eye_x, eye + 0.11, 0.09, 0.03, 0.1, f.bag, 2.0 * f.bag, f.bag),
    (0.40, f.cheekbone_y, 0.14, 0.09, -0.4, f.cheekbone, 0.0, 0.0),
    (0.36, 0.30, 0.13, 0.12, 0.0, 0.03 * smile, 0.0, f.blush),
    (0.36, 0.48, 0.12, 0.14, 0.3, f.cheek, 0.0, 0.0),
    (0.36, 0.74, 0.14, 0.10, 0.6, f.jowl, 0.0, 0.0),
    (0.21, 0.47, 0.025, 0.11, -0.55, -fold, 2.5 * fold, 0.0),
    (f.cleft + 0.07, 0.83, 0.08, 0.07, 0.0, 0.6 * f.chin, 0.0, 0.0),
  ]
  return [
    *pairs,
    *((-u, v, su, sv, -angle, *rest) for u, v, su, sv, angle, *rest in pairs),
    *_nose(face, view),
    (0.0, -0.50, 0.30, 0.16, 0.0, f.forehead, 0.0, 0.0),
    (0.0, mouth - 0.09, 0.02, 0.05, 0.0, -0.02, 0.06, 0.0),
    (0.0, mouth, 0.16, 0.10, 0.0, 0.05, 0.0, 0.0),
    (0.0, mouth + 0.14, 0.10, 0.035, 0.0, -0.035, 0.15, 0.0),
    *((u, v, 0.018, 0.018, 0.0, 0.0, dark, 0.0) for u, v, dark in f.moles),
  ]


def _nose(
  face: types.SimpleNamespace, view: types.SimpleNamespace
) -> list[tuple[float, ...]]:
  f, (du, dv) = face, nose_shift(face, view)
  bridge, wing = f.bridge_width, 0.8 * f.nose_width
  u, v = 0.7 * du, f.nose_y + 0.7 * dv
  middle = 0.5 * (f.eye_y + f.nose_y)
  return [
    (0.0, f.eye_y + 0.02, bridge, 0.09, 0.0, f.nose_root, 0.0, 0.0),
    (0.5 * du, middle, bridge, 0.10, 0.0, f.nose_hump, 0.0, 0.0),
    (du, f.nose_y + dv, f.nose_bulb, 0.065, 0.0, f.nose_tip, -0.05, 0.08),
    (u - wing, v, 0.04, 0.05, 0.0, 0.06, 0.0, 0.05),
    (u + wing, v, 0.04, 0.05, 0.0, 0.06, 0.0, 0.05),
    (u, v + 0.075, f.nose_width, 0.03, 0.0, 0.0, 0.30, 0.0),
  ]


def shade(
  view: types.SimpleNamespace, at: Surface, height: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Lambert's law and a highlight, on the skull under its flesh.

  Returns:
    (diffuse light, highlight), both about 0..1.
  """
  steep = at.head * (0.5 / at.pixel)
  normal = at.normal.copy()
  normal[0, :, 1:-1] -= (height[:, 2:] - height[:, :-2]) * steep[:, 1:-1]
  normal[1, 1:-1] -= (height[2:] - height[:-2]) * steep[1:-1]
  normal[2] += 0.15  # leaves the rim of the head some light
  light = np.array([view.light_x, view.light_y, 1.0])
  light /= np.linalg.norm(light)
  half = light + np.array([0.0, 0.0, 1.0])
  half /= np.linalg.norm(half)
  both = np.stack([light, half]).astype(np.float32)
  both = np.einsum("ij,jhw->ihw", both, normal)
  both /= np.sqrt(np.einsum("ihw,ihw->hw", normal, normal))
  diffuse, glint = np.maximum(both, 0.0, out=both)
  for _ in range(4):
    glint *= glint
  return view.ambient + (1.0 - view.ambient) * 1.25 * diffuse, glint
