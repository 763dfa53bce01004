"""IR: iResNets as AdaFace and InsightFace_Pytorch write them.

The first block of a stage takes every second pixel as its shortcut where the
channels stay. AdaFace's end in a BatchNorm without scale and bias; those of
InsightFace_Pytorch and face.evoLVe, here `ir…_evolve`, in one with both, and
have none before the PReLU of a block. IR-SE is either with `se`.

References:
  Kim et al., AdaFace: Quality Adaptive Margin for Face Recognition, 2022.
  Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
    Recognition, 2019.
"""

import dataclasses
from collections.abc import Iterator

from facejax.models import iresnet, torch_names


@dataclasses.dataclass(frozen=True)
class IRSpec(iresnet.IResNetSpec):
  """Size of one member; its own class, for its layers are named otherwise."""

  pick: bool = True
  embedding_bias: bool = False


def _evolve(blocks: tuple[int, int, int, int]) -> IRSpec:
  return IRSpec(
    blocks, inner_bn=False, embedding_scale=True, embedding_bias=True
  )


NETS = {
  "ir18": IRSpec((2, 2, 2, 2)),
  "ir34": IRSpec((3, 4, 6, 3)),
  "ir50": IRSpec((3, 4, 14, 3)),
  "ir101": IRSpec((3, 13, 30, 3)),
  "ir50_evolve": _evolve((3, 4, 14, 3)),
  "ir101_evolve": _evolve((3, 13, 30, 3)),
  "ir152_evolve": _evolve((3, 8, 36, 3)),
}


def torch_layers(
  spec: IRSpec, *, image_size: tuple[int, int]
) -> Iterator[torch_names.Layer]:
  """The layers under their names in AdaFace's code and ours."""
  layer = torch_names.Layer
  for i, name in enumerate(("stem", "stem_bn", "stem_prelu")):
    yield layer(f"input_layer.{i}", (name,))
  inner = ("bn2",) if spec.inner_bn else ()
  residual = ("bn1", "conv1", *inner, "prelu", "conv2", "bn3")
  for i, (_, *row) in enumerate(spec.rows()):
    if spec.projects(*row):
      yield layer(f"body.{i}.shortcut_layer.0", ("blocks", i, "shortcut_conv"))
      yield layer(f"body.{i}.shortcut_layer.1", ("blocks", i, "shortcut_bn"))
    for j, name in enumerate(residual):
      yield layer(f"body.{i}.res_layer.{j}", ("blocks", i, name))
    if spec.se:
      # A member of its own name with AdaFace, the next in line elsewhere.
      se = "se_block" if spec.inner_bn else len(residual)
      for name in ("fc1", "fc2"):
        yield layer(
          f"body.{i}.res_layer.{se}.{name}", ("blocks", i, "se", name)
        )
  yield layer("output_layer.0", ("head_bn",))
  height, width = image_size
  yield layer("output_layer.3", ("linear",), flat=(height // 16, width // 16))
  yield layer("output_layer.4", ("embedding_bn",))
