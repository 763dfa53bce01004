"""Whose names a state dict has, and what its nets do otherwise.

The names of layers tell nets apart; they do not say how a project feeds its
nets, nor what epsilon its BatchNorm has. That is written down here by project.
Layouts of which no net here is are known by name too, to refuse them with it.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

import numpy as np

# What may stand before every name of a net, one after the other.
_BEFORE = ("module", "_orig_mod", "model", "net", "backbone", "features")


@dataclasses.dataclass(frozen=True)
class Layout:
  """What the nets of one project have in common.

  Attributes:
    project: whose they are.
    anchor: the name of an array that only they have.
    colors: order of the channels that they were trained on.
    pixel_scale: pixels enter as (x - 127.5) / pixel_scale.
    epsilon: of its BatchNorm, where it is another than the net's here.
    advice: what the names cannot say, for the notice.
  """

  project: str
  anchor: str
  colors: str = "RGB"
  pixel_scale: float = 127.5
  epsilon: float | None = None
  advice: str = ""


_ADAFACE = Layout(
  "AdaFace",
  "input_layer.0.weight",
  colors="BGR",
  advice="AdaFace trains on BGR; say --colors RGB for a net that was not",
)
_CVLFACE = Layout("CVLface", "input_layer.0.weight")
_EVOLVE = Layout(
  "InsightFace_Pytorch and face.evoLVe",
  "input_layer.0.weight",
  advice="whether it was trained on RGB or BGR the file does not say: --colors",
)
_MAGFACE = Layout(
  "MagFace",
  "layer1.0.conv1.weight",
  epsilon=2e-5,
  advice="BatchNorm's epsilon is taken to be 2e-5, as in MagFace's code"
  " (--bn-epsilon), which feeds BGR pixels divided by 255: for its nets add"
  " --colors BGR --pixel-mean 0 --pixel-scale 255",
)
_ARCFACE = Layout("arcface_torch", "layer1.0.conv1.weight")
_LAYOUTS = (
  _ARCFACE,
  _ADAFACE,
  Layout(
    "facenet-pytorch",
    "conv2d_1a.conv.weight",
    pixel_scale=128.0,
    advice="facenet-pytorch takes (x - 127.5) / 128; --pixel-scale changes it",
  ),
  Layout("arcface_torch", "conv_sep.layers.0.weight"),
  Layout("arcface_torch", "patch_embed.proj.weight"),
  Layout("SphereFace", "conv1_1.weight"),
)
# Part of a name -> the layout that it gives away. In this order.
_FOREIGN = {
  "keypoint_linear.": "CVLface's KP-RPE nets, which take landmarks",
  "mobilenet.features.": "CVLface's Part fViT",
  "relative_position_bias_table": "a Swin transformer",
  "cls_token": "a ViT with a class token, such as timm's",
  "body.0.res_layer.8.": "the bottleneck nets of AdaFace (IR-152, IR-200)",
  "conv_6_sep.conv.": "the MobileFaceNet of InsightFace_Pytorch",
  "bn_o1.": "the ResNet of face.evoLVe",
  "ghost1.primary_conv.": "GhostNet",
  "layer1.0.conv3.": "the bottleneck ResNet of torchvision",
  "Mixed_5b.": "an Inception net of torchvision or timm",
  "stages.0.blocks.": "timm's ConvNeXt or EdgeNeXt",
  "conv_stem.": "timm's EfficientNet",
}


def beginning(names: Collection[str]) -> str:
  """What stands before every name of a net, of known wrappers.

  Nothing if it is not certain: where two nets lie side by side.

  >>> beginning(["model.input_layer.0.weight", "head.kernel"])
  'model.'
  """
  found = set()
  for anchor in {layout.anchor for layout in _LAYOUTS}:
    for name in names:
      before = name.removesuffix(anchor)
      parts = before.split(".")[:-1]
      if name.endswith(anchor) and all(part in _BEFORE for part in parts):
        found.add(before)
  return found.pop() if len(found) == 1 else ""


def foreign(names: Iterable[str]) -> str | None:
  """Whose layout it is, if it is one of which no net here is."""
  listed = list(names)
  for part, layout in _FOREIGN.items():
    if any(part in name for name in listed):
      return layout
  if "layer1.0.conv1.weight" in listed and not any(
    name.startswith("layer1.0.prelu.") for name in listed
  ):
    return "the ResNet of torchvision, or one like it without PReLU"
  return None


def find(arrays: Mapping[str, np.ndarray], prefix: str = "") -> Layout:
  """The project whose names these are; one without a name, if none is known.

  Args:
    arrays: by name, without what stood before the names.
    prefix: what did, which tells projects of the same names apart.
  """
  found = next((x for x in _LAYOUTS if x.anchor in arrays), Layout("", ""))
  if found is _ADAFACE:
    if "body.0.res_layer.3.weight" in arrays and (
      arrays["body.0.res_layer.3.weight"].ndim == 4
    ):
      return _EVOLVE
    # AdaFace keeps its net as "model.", CVLface as "net.".
    return _CVLFACE if "net" in prefix.split(".") else _ADAFACE
  if found is _ARCFACE:
    scale = arrays.get("features.weight", np.ones(1))
    if "features" in prefix.split(".") or not (scale == 1).all():
      return _MAGFACE
  return found


def renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Arrays in the names of a layout that a net here has.

  ElasticFace's squeeze-and-excitation is called like ours; a ViT that was
  trained without masks gets a token for them, which it does not use.
  """
  made = dict(arrays)
  if _ARCFACE.anchor in made:
    made = {name.replace(".se_block.", ".se."): x for name, x in made.items()}
  patches = made.get("patch_embed.proj.weight")
  if patches is not None and "mask_token" not in made:
    made["mask_token"] = np.zeros((1, 1, len(patches)), np.float32)
  return made


def folded(
  arrays: Mapping[str, np.ndarray], *, epsilon_change: float = 0.0
) -> dict[str, np.ndarray]:
  """Arrays of a net with the epsilon and the last scale that nets here have.

  What their epsilon is more than ours is added to the variances, which gives
  the same quotient; a trained last scale g of an iResNet goes into the linear
  layer before it, for g (x - mean) = g x - g mean. Computed in float64 and
  rounded once. Embeddings stay; in training, which normalises with the batch's
  own statistics, the scale starts at 1 again.

  Args:
    arrays: by name.
    epsilon_change: their epsilon less that of the net.

  Raises:
    ValueError: if a variance would become negative.
  """
  made = dict(arrays)
  if epsilon_change:
    for name in [name for name in made if name.endswith(".running_var")]:
      changed = made[name].astype(np.float64) + epsilon_change
      if (changed < 0).any():
        raise ValueError(
          f"{name!r} has a variance below {-epsilon_change:g}: that epsilon of"
          " BatchNorm cannot be folded into it"
        )
      made[name] = changed.astype(np.float32)
  return _without_last_scale(made)


_SCALED = ("fc.weight", "fc.bias", "features.running_mean")


def _without_last_scale(
  arrays: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
  scale = arrays.get("features.weight")
  if scale is None or scale.ndim != 1 or (scale == 1).all():
    return arrays
  if any(
    name not in arrays or len(arrays[name]) != len(scale) for name in _SCALED
  ):
    return arrays  # refused later, with the names
  wide = scale.astype(np.float64)
  for name in _SCALED:
    factor = wide.reshape(-1, *[1] * (arrays[name].ndim - 1))
    scaled = arrays[name].astype(np.float64) * factor
    arrays[name] = scaled.astype(np.float32)
  arrays["features.weight"] = np.ones_like(scale)
  return arrays
