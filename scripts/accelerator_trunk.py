"""Training steps of nets in bfloat16, beside PyTorch in turns.

`bench_backbone.py` does the work: iresnet50 and vit_b on 112 x 112, SGD with
momentum; PyTorch with channels-last tensors and autocast, in a process of its
own. Images a second, and the share of the rate of one large product.

  python scripts/accelerator_trunk.py --out results
"""

import statistics
import sys
import types

import accelerator_common as common
import bench_backbone

from facejax.models import functional

NETS = ("iresnet50", "vit_b")
BATCH = 128


def rates(net: str, found: dict[str, list[float]], options):
  """Images a second in training, ours over theirs, share of the products."""
  size = bench_backbone.image_size(net, options)
  built = functional.build(
    net, embedding_dim=bench_backbone.DIM, image_size=size
  )
  peak = 2 * bench_backbone.SQUARE**3 / min(found["jax matmul"])
  ours, theirs = found["jax train"], found.get("torch train")
  rate = options.batch / statistics.median(ours)
  operations = 2 * bench_backbone.PASSES["train"] * built.multiply_adds * rate
  told = {
    "images_a_second": rate,
    "of_products": operations / peak,
    "products_a_second": peak,
  }
  if theirs:
    pairs = zip(theirs, ours, strict=True)
    told |= {
      "pytorch_images_a_second": options.batch / statistics.median(theirs),
      "over_pytorch": statistics.median(one / two for one, two in pairs),
    }
  return told


def main() -> int:
  args = common.arguments(__doc__, "trunk")
  record = common.Record("trunk", args)
  on_cpu = common.kind() == "cpu"
  # A product that fills the device, and no more than a CPU does in a moment.
  bench_backbone.SQUARE = 512 if on_cpu else 8192
  options = types.SimpleNamespace(
    batch=2 if args.tiny else BATCH,
    rounds=2 if args.tiny else 5,
    turn=0.01 if args.tiny else 1.0,
    # Few CPUs have instructions for bfloat16.
    dtype="float32" if args.tiny else "bfloat16",
    channels_last=True,
    image_size=(32, 32) if args.tiny else None,
    works=["train"],
    torch="all" if common.torch_device() else "none",
  )
  for net in ("iresnet10_slim",) if args.tiny else NETS:
    if record.late(net):
      continue
    with record.attempt(net):
      found = bench_backbone.measure(net, options)
      told = rates(net, found, options)
      record.add(
        net,
        batch=options.batch,
        torch=options.torch,
        **told,
        rounds=found,
        peak=common.peak(),
      )
  return record.finish()


if __name__ == "__main__":
  sys.exit(main())
