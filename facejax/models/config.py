"""The configuration of the backbone."""

import dataclasses
from typing import Annotated, Any, Literal

from facejax.runtime import ranges

# What arcface_torch calls them: name and options here.
ALIASES: dict[str, dict[str, Any]] = {
  **{f"r{n}": {"name": f"iresnet{n}"} for n in (18, 34, 50, 100, 200)},
  "vit_t_dp005_mask0": {"name": "vit_t", "drop_path": 0.05},
  "vit_s_dp005_mask_0": {"name": "vit_s", "drop_path": 0.05},
  "vit_b_dp005_mask_005": {
    "name": "vit_b",
    "drop_path": 0.05,
    "mask_ratio": 0.05,
  },
  "vit_l_dp005_mask_005": {
    "name": "vit_l",
    "drop_path": 0.05,
    "mask_ratio": 0.05,
  },
}

_RATE = ranges.Range(0, 1, closed_above=False)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The backbone."""

  name: (
    Literal[
      "iresnet10_slim",
      "iresnet18",
      "iresnet34",
      "iresnet50",
      "iresnet100",
      "iresnet200",
      "ir18",
      "ir34",
      "ir50",
      "ir101",
      "ir50_evolve",
      "ir101_evolve",
      "ir152_evolve",
      "sphereface4",
      "sphereface10",
      "sphereface20",
      "sphereface36",
      "sphereface62",
      "sphereface64",
      "mobilefacenet",
      "mbf",
      "mbf_large",
      "vit_micro",
      "vit_t",
      "vit_s",
      "vit_b",
      "vit_l",
      "vit_h",
      "vit_s_p8",
      "vit_b_p8",
      "nn1",
      "nn2",
      "nn3",
      "nn4",
      "nn4_small2",
      "inception_slim",
      "inception_resnet_v1",
      "dlib_resnet29",
      "r18",
      "r34",
      "r50",
      "r100",
      "r200",
      "vit_t_dp005_mask0",
      "vit_s_dp005_mask_0",
      "vit_b_dp005_mask_005",
      "vit_l_dp005_mask_005",
    ]
    | str
  ) = "iresnet50"
  """The net: iResNets, as InsightFace, AdaFace (ir…) or face.evoLVe have them;
  SphereFace's, by their convolutions (62 is the released file named 64);
  MobileFaceNet as in the paper or as InsightFace has it (mbf, mbf_large);
  InsightFace's ViTs and CVLface's (…_p8); FaceNet's (nn1 … nn4_small2), a small
  one in their manner, and facenet-pytorch's (inception_resnet_v1); dlib's. The last
  nine are InsightFace's names, for net and options. A net of your own is
  package.module:function, or the name of an entry point."""
  norm: Literal["batch", "lrn"] = "batch"
  """BatchNorm, or the local response normalisation that FaceNet's nets were
  published with."""
  embedding_dim: Annotated[int, ranges.Range(1)] = 512
  """Size of the embeddings."""
  dropout: Annotated[float, _RATE] = 0.0
  """Dropout rate before the last linear layer."""
  se: bool = False
  """Squeeze-and-excitation in the blocks (iResNets)."""
  drop_path: Annotated[float, _RATE] = 0.0
  """Rate of stochastic depth at the last block, growing from 0 at the first
  (iResNets, ViTs). ViTs are published with 0.1, or 0.05 on large sets."""
  mask_ratio: Annotated[float, _RATE] = 0.0
  """Share of the tokens that training leaves out (ViTs); published with 0 and
  0.1."""
  remat: bool = False
  """Compute blocks again in the backward pass: less memory on accelerators,
  more time (all but FaceNet's nets)."""
  dtype: Literal["float32", "bfloat16", "float64"] = "float32"
  """Arithmetic of the trunk; statistics and embeddings stay float32. float64
  is for checks: everything is computed and kept in double precision."""
  bn_group: Annotated[int, ranges.Range(0)] = 0
  """Images, in the order of the batch, whose statistics BatchNorm takes
  together; 0 takes those of the whole batch. Published recipes for several GPUs
  have their images a GPU, such as 128. Results do not depend on the devices;
  nothing crosses them for it where each holds whole groups."""
  bn_frozen: bool = False
  """BatchNorm normalises with its running statistics and leaves them as they
  are: for fine-tuning (--init-from) on few people or in small batches."""
  lora: Annotated[int, ranges.Range(0)] = 0
  """Rank of adapters beside the kernels of the net that init_from names, which
  alone are trained; 0 trains the net itself."""
  lora_alpha: Annotated[float, ranges.POSITIVE] = 16.0
  """How much they count: alpha / rank times their product is added."""
  gradients: Literal["float32", "bfloat16"] = "float32"
  """How the gradients of linear layers are added over devices. With dtype
  bfloat16 alone, where those of convolutions are added so in any case: an
  iresnet50 then sends 83 MiB a step instead of 108."""


def resolved(model: ModelConfig) -> ModelConfig:
  """The same with the net's name here in place of an alias.

  The options that an alias stands for are set where they are left at 0.

  >>> resolved(ModelConfig(name="vit_t_dp005_mask0")).drop_path
  0.05
  """
  meant = {
    field: value
    for field, value in ALIASES.get(model.name, {}).items()
    if field == "name" or not getattr(model, field)
  }
  return dataclasses.replace(model, **meant)
