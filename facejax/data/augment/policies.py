"""Sets of augmentations that go by a name."""

import dataclasses

from facejax.data.augment import augment

# None of them mirrors: that is on by default in every recipe.
POLICIES = {
  "none": augment.Augment(),
  # Of nobody's paper: a little of all that photographs differ by, and nothing
  # that hides the face.
  "light": augment.Augment(
    shift=2,
    jitter=0.2,
    jitter_light=0.2,
    jitter_saturation=0.2,
    grey=0.05,
    blur=0.1,
    blur_sigma=1.0,
    jpeg=0.1,
    jpeg_quality=50,
  ),
  # The code of AdaFace (Kim et al., 2022): three changes, each on one image of
  # five.
  "adaface": augment.Augment(random_crop=0.2, jitter=0.2, downscale=0.2),
  # The augmented DALI pipeline of InsightFace's arcface_torch. It turns hue and
  # raises saturation in one direction only.
  "insightface": augment.Augment(
    jitter=0.2,
    jitter_light=0.0,
    jitter_saturation=0.2,
    jitter_hue=20.0,
    grey=0.1,
    blur=0.2,
    blur_sigma=1.1,
    downscale=0.1,
    downscale_side=0.5,
  ),
}


def combined(policy: str, own: augment.Augment) -> augment.Augment:
  """Returns a policy with single fields put over it.

  Args:
    policy: A name of `POLICIES`.
    own: Its fields win wherever they differ from the default.

  Raises:
    ValueError: There is no policy of that name.

  >>> changed = combined("adaface", augment.Augment(flip=True, jitter=0.5))
  >>> changed.flip, changed.jitter, changed.downscale
  (True, 0.5, 0.2)
  """
  if policy not in POLICIES:
    raise ValueError(
      f"there is no augmentation policy {policy!r}: take one of"
      f" {', '.join(POLICIES)}"
    )
  fields = {
    field.name: getattr(own, field.name)
    for field in dataclasses.fields(own)
    if getattr(own, field.name) != field.default
  }
  return dataclasses.replace(POLICIES[policy], **fields)
