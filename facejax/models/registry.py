"""The nets by name, and what those of one architecture share."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any

from facejax.models import (
  config,
  dlib_resnet,
  facenet,
  inception,
  inception_resnet,
  inception_resnet_rows,
  ir,
  iresnet,
  layers,
  mobilefacenet,
  own,
  sphereface,
  torch_names,
  trunk,
  vit,
  zeiler_fergus,
)

SPECS: dict[str, Any] = {
  **iresnet.NETS,
  **ir.NETS,
  **sphereface.NETS,
  **mobilefacenet.NETS,
  **vit.NETS,
  **facenet.NETS,
  **inception_resnet_rows.NETS,
  **dlib_resnet.NETS,
}

NETS = tuple(SPECS)


@dataclasses.dataclass(frozen=True)
class Family:
  """What the nets of one architecture share; all take their spec first.

  Attributes:
    module: (spec, *, embedding_dim, image_size, dropout, norm, dtype, rngs) ->
      the nnx module.
    multiply_adds: (spec, *, embedding_dim, image_size) -> their number.
    check_image_size: (spec, image_size), raises ValueError.
    torch_layers: (spec, *, image_size) -> the layers by their torch names.
    norms: the values of `norm` that it has; one alone is not passed on.
    takes_one: whether it can be trained on one image at a time: with "lrn", if
      it has that.
    epsilon: what its BatchNorm adds to variances; None without BatchNorm, or
      with several.
    unit_embeddings: whether the nets end in a normalisation, so that all
      embeddings have length 1 and none can tell anything by it.
    image_size: (height, width) of released weights.
  """

  module: Callable[..., trunk.Net]
  multiply_adds: Callable[..., int]
  check_image_size: Callable[[Any, tuple[int, int]], None]
  torch_layers: Callable[..., Iterable[torch_names.Layer]] = lambda *_, **__: ()
  norms: tuple[layers.Norm, ...] = ("batch", "lrn")
  takes_one: bool = True
  epsilon: float | None = None
  unit_embeddings: bool = False
  image_size: tuple[int, int] = (112, 112)


FAMILIES = {
  iresnet.IResNetSpec: Family(
    iresnet.IResNet,
    iresnet.multiply_adds,
    iresnet.check_image_size,
    iresnet.torch_layers,
    norms=("batch",),
    takes_one=False,
    epsilon=1e-5,
  ),
  ir.IRSpec: Family(
    iresnet.IResNet,
    iresnet.multiply_adds,
    iresnet.check_image_size,
    ir.torch_layers,
    norms=("batch",),
    epsilon=1e-5,
    takes_one=False,
  ),
  sphereface.SphereFaceSpec: Family(
    sphereface.SphereFace,
    sphereface.multiply_adds,
    sphereface.check_image_size,
    sphereface.torch_layers,
    norms=("batch",),
  ),
  mobilefacenet.MobileFaceNetSpec: Family(
    mobilefacenet.MobileFaceNet,
    mobilefacenet.multiply_adds,
    mobilefacenet.check_image_size,
    mobilefacenet.torch_layers,
    norms=("batch",),
    takes_one=False,
    epsilon=1e-5,
  ),
  vit.ViTSpec: Family(
    vit.ViT,
    vit.multiply_adds,
    vit.check_image_size,
    vit.torch_layers,
    norms=("batch",),
    takes_one=False,
  ),
  inception.InceptionSpec: Family(
    inception.Inception,
    inception.multiply_adds,
    inception.check_image_size,
    unit_embeddings=True,
  ),
  inception_resnet_rows.InceptionResNetSpec: Family(
    inception_resnet.InceptionResNet,
    inception_resnet_rows.multiply_adds,
    inception_resnet_rows.check_image_size,
    inception_resnet.torch_layers,
    norms=("batch",),
    takes_one=False,
    epsilon=inception_resnet.EPSILON,
    image_size=(160, 160),
  ),
  dlib_resnet.DlibResNetSpec: Family(
    dlib_resnet.DlibResNet,
    dlib_resnet.multiply_adds,
    dlib_resnet.check_image_size,
    norms=("batch",),
    image_size=dlib_resnet.IMAGE_SIZE,
  ),
  own.OwnNet: Family(
    own.module,
    own.multiply_adds,
    # Only the net itself knows, and says so when it is made.
    lambda spec, image_size: None,
    norms=("batch",),
  ),
  zeiler_fergus.ZeilerFergusSpec: Family(
    zeiler_fergus.ZeilerFergus,
    zeiler_fergus.multiply_adds,
    zeiler_fergus.check_image_size,
    unit_embeddings=True,
  ),
}


def find(name: str) -> tuple[Any, Family]:
  """The spec of a net and its family.

  Args:
    name: one of `NETS`, of an alias of the field's, of an entry point, or
      package.module:function (see `own`).

  Raises:
    ValueError: listing the nets, if there is none of this name.
  """
  name = config.ALIASES.get(name, {}).get("name", name)
  spec = SPECS.get(name) or own.find(name)
  if spec is None:
    known = [*NETS, *config.ALIASES, *own.names()]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(
      f"net {name!r} is unknown; {hint}choose one of {[*NETS, *own.names()]}, or"
      " name your own as package.module:function"
    )
  return spec, FAMILIES[type(spec)]


def with_options(name: str, *, norm: str, **options: Any) -> Any:
  """The spec of a net with the options that were asked for.

  Raises:
    ValueError: if the net has no such norm or option, naming those that have.
  """
  spec, family = find(name)
  if norm not in family.norms:
    raise ValueError(
      f"net {name!r} has no norm={norm!r}; choose one of {list(family.norms)}"
    )
  wanted = {option: value for option, value in options.items() if value}
  for option, value in wanted.items():
    if not hasattr(spec, option):
      able = [net for net in NETS if hasattr(SPECS[net], option)]
      raise ValueError(
        f"net {name!r} has no {option}={value!r}; these nets have: {able}"
      )
  return dataclasses.replace(spec, **wanted)
