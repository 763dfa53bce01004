"""What sets one generated person, and one photograph, apart from another.

Two tables of ranges. `TRAITS` belong to a person: shapes, spacings, colours.
`CONDITIONS` belong to one photograph: pose, light, expression, clutter. Every
entry is an independent uniform variable, so that people differ along some
seventy continuous directions and no single one gives a person away.

Lengths are in half heads: a head spans about -1 (crown) to 1 (chin), u grows
to the right of the picture and v downwards, from the middle of the face.
Angles are in radians. A pair of limits around zero means "in some only": what
is zero or less does not show.
"""

import types

import numpy as np

# One stream of random numbers a person and one a photograph, found by counting
# and not by seeding, so that any picture can be drawn at any time.
_PERSON = 0

TRAITS = {
  # Skull and jaw.
  "head_width": (0.6, 0.82),
  "head_height": (0.90, 1.02),
  "jaw": (-0.28, 0.34),
  "taper": (-0.10, 0.04),
  "ear_size": (0.10, 0.19),
  "ear_y": (-0.05, 0.20),
  # Eyes.
  "eye_x": (0.235, 0.325),
  "eye_y": (-0.10, 0.04),
  "eye_width": (0.085, 0.155),
  "eye_upper": (0.035, 0.080),
  "eye_lower": (0.025, 0.055),
  "eye_tilt": (-0.38, 0.38),
  "iris_size": (0.045, 0.062),
  "iris_blue": (0.0, 1.0),
  "iris_light": (0.0, 1.0),
  "crease": (0.0, 0.45),
  "lash": (0.4, 0.95),
  "socket": (0.0, 0.09),
  "bag": (0.0, 0.04),
  # Brows.
  "brow_gap": (0.09, 0.22),
  "brow_width": (0.12, 0.20),
  "brow_thick": (0.01, 0.058),
  "brow_arch": (-0.04, 0.11),
  "brow_slope": (-0.09, 0.09),
  "brow_in": (-0.04, 0.04),
  "brow_dark": (0.35, 1.0),
  "ridge": (0.0, 0.05),
  # Nose.
  "nose_y": (0.27, 0.44),
  "nose_width": (0.055, 0.145),
  "nose_root": (0.0, 0.08),
  "nose_hump": (0.02, 0.11),
  "nose_tip": (0.09, 0.20),
  "nose_bulb": (0.055, 0.11),
  "bridge_width": (0.035, 0.075),
  "nostril": (0.3, 0.9),
  # Mouth and chin.
  "mouth_gap": (0.155, 0.285),
  "mouth_width": (0.14, 0.29),
  "lip_upper": (0.016, 0.08),
  "lip_lower": (0.028, 0.1),
  "bow": (0.0, 0.6),
  "mouth_curve": (-0.03, 0.04),
  "lip_red": (0.0, 1.0),
  "lip_dark": (0.0, 1.0),
  "chin": (-0.02, 0.09),
  "cleft": (-0.05, 0.05),
  # Flesh.
  "cheekbone": (-0.02, 0.08),
  "cheekbone_y": (0.10, 0.26),
  "cheek": (-0.09, 0.09),
  "jowl": (-0.05, 0.06),
  "forehead": (-0.05, 0.06),
  "fold": (0.0, 0.05),
  # Colours.
  "melanin": (0.0, 1.0),
  "blood": (0.0, 1.0),
  "blush": (0.0, 0.22),
  "hair_dark": (0.0, 1.0),
  "hair_red": (0.0, 1.0),
  "hair_grey": (-1.6, 0.9),
  # Hair.
  "hairline": (-0.82, -0.36),
  "hair_part": (-0.22, 0.22),
  "hair_curve": (-0.3, 0.9),
  "peak": (-0.10, 0.10),
  "hair_volume": (0.02, 0.26),
  "hair_length": (-0.3, 1.3),
  "hair_side": (-0.25, 0.50),
  "hair_curl": (0.0, 1.0),
  # In some people only.
  "beard": (-1.6, 0.9),
  "beard_line": (0.30, 0.60),
  "moustache": (-2.0, 0.9),
  "glasses": (-2.6, 1.0),
  "glasses_round": (0.0, 1.0),
  "glasses_size": (0.15, 0.21),
}

CONDITIONS = {
  # Pose, and what an aligner leaves behind.
  "yaw": (-0.5, 0.5),
  "pitch": (-0.24, 0.24),
  "roll": (-0.06, 0.06),
  "zoom": (-0.04, 0.04),
  "shift_x": (-0.03, 0.03),
  "shift_y": (-0.03, 0.03),
  # Light.
  "light_x": (-1.1, 1.1),
  "light_y": (-1.0, 0.4),
  "ambient": (0.2, 0.55),
  "exposure": (-0.25, 0.6),
  "warmth": (-0.22, 0.22),
  "green": (-0.12, 0.12),
  "shine": (0.0, 0.25),
  "shadow": (-1.6, 0.6),
  "shadow_angle": (-3.14, 3.14),
  "shadow_offset": (-0.5, 0.5),
  # Expression.
  "smile": (-0.3, 0.9),
  "gape": (-1.2, 0.8),
  "eye_open": (0.55, 1.2),
  "brow_raise": (-0.025, 0.05),
  "frown": (-0.03, 0.05),
  "gaze_x": (-0.05, 0.05),
  "gaze_y": (-0.02, 0.02),
  # Grooming and dress.
  "hair_fall": (-0.05, 0.05),
  "hair_puff": (0.85, 1.2),
  "hat": (-8.0, 1.0),
  "glasses_on": (-1.0, 4.0),
  "unshaved": (0.4, 1.0),
  "lipstick": (-0.3, 0.3),
  "neck": (0.36, 0.46),
  "shoulder": (1.0, 1.25),
  # Something before the face: a hand, a cup, the head of a passer-by.
  "occluder": (-3.0, 1.0),
  "occluder_angle": (-3.14, 3.14),
  "occluder_reach": (0.5, 0.85),
  "occluder_round": (0.0, 1.0),
  # Camera.
  "blur": (0.0, 0.025),
  "noise": (0.004, 0.028),
  "saturation": (0.55, 1.15),
}

_MOLES = 5


def person(seed: int, identity: int) -> types.SimpleNamespace:
  """Draws the traits of a person.

  Args:
    seed: of the whole set, in [0, 2**64).
    identity: which person, in [0, 2**64).

  Returns:
    `TRAITS` as Python floats; `moles`, triples (u, v, darkness); and the
    colours `skin`, `hair`, `brow` and `iris`, linear light, float32 [3, 1, 1].
  """
  rng = stream(seed, identity, _PERSON)
  face = _sample(rng, TRAITS)
  face.moles = [
    (0.9 * u - 0.45, 1.1 * v - 0.35, 1.4 * dark - 0.8)
    for u, v, dark in rng.random((_MOLES, 3)).tolist()
    if 1.4 * dark > 0.8
  ]
  face.skin = _skin(face)
  face.hair = _hair(face)
  face.brow = face.hair * (0.7 - 0.28 * face.melanin)
  face.iris = _iris(face)
  return face


def conditions(rng: np.random.Generator) -> types.SimpleNamespace:
  """Draws the conditions of a photograph from its own stream.

  Returns:
    `CONDITIONS` as Python floats, and the colours `cloth` and `occluder_colour`
    (linear light, float32 [3, 1, 1]).
  """
  view = _sample(rng, CONDITIONS)
  view.cloth = 0.7 * rng.random((3, 1, 1), np.float32) ** 2
  view.occluder_colour = 0.8 * rng.random((3, 1, 1), np.float32) ** 2
  return view


def stream(seed: int, identity: int, part: int) -> np.random.Generator:
  """Random numbers of one part of a person: 0 the traits, 1 + i photograph i.

  References:
    Salmon, Moraes, Dror, Shaw, Parallel Random Numbers: As Easy as 1, 2, 3,
      2011 (Philox: the key picks the person, the counter the part).
  """
  key = np.array([seed, identity], np.uint64)
  counter = np.array([0, 0, 0, part], np.uint64)
  return np.random.Generator(np.random.Philox(key=key, counter=counter))


def colour(red: float, green: float, blue: float) -> np.ndarray:
  """A colour that broadcasts over a picture, float32 [3, 1, 1]."""
  return np.array([red, green, blue], np.float32).reshape(3, 1, 1)


def _sample(
  rng: np.random.Generator, table: dict[str, tuple[float, float]]
) -> types.SimpleNamespace:
  low, high = np.array(list(table.values())).T
  values = low + (high - low) * rng.random(len(table))
  # Python floats never widen the float32 pictures that they scale.
  return types.SimpleNamespace(**dict(zip(table, values.tolist(), strict=True)))


def _mix(first: tuple, second: tuple, amount: float) -> np.ndarray:
  """Mixes two colours as pigments do: geometrically."""
  logs = np.log(first) * (1.0 - amount) + np.log(second) * amount
  return colour(*np.exp(logs))


def _skin(face: types.SimpleNamespace) -> np.ndarray:
  skin = _mix((0.74, 0.50, 0.39), (0.13, 0.066, 0.042), face.melanin)
  return skin * colour(1.0, 1.0 - 0.18 * face.blood, 1.0 - 0.22 * face.blood)


def _hair(face: types.SimpleNamespace) -> np.ndarray:
  hair = _mix((0.46, 0.32, 0.16), (0.014, 0.011, 0.010), face.hair_dark)
  hair *= colour(1.0, 1.0 - 0.5 * face.hair_red, 1.0 - 0.6 * face.hair_red)
  return hair + max(face.hair_grey, 0.0) * (0.38 - hair)


def _iris(face: types.SimpleNamespace) -> np.ndarray:
  brown = _mix((0.030, 0.014, 0.008), (0.20, 0.10, 0.03), face.iris_light)
  blue = _mix((0.06, 0.12, 0.14), (0.22, 0.34, 0.40), face.iris_light)
  amount = min(max(2.0 * face.iris_blue - 0.8, 0.0), 1.0)
  return brown + amount * (blue - brown)
