"""The fused head by its number of classes a block: is the rule the best?

Powers of two around the rule's, from the rule's outwards.

  python scripts/accelerator_blocks.py --out results
"""

import sys

import accelerator_common as common
import accelerator_head as heads
import bench_head_plot as report

from facejax.head import blocks

CLASSES = 1_000_000
FACTORS = (1, 1 / 2, 2, 1 / 4, 4, 1 / 8, 1 / 16)


def main() -> int:
  args = common.arguments(__doc__, "blocks")
  record = common.Record("blocks", args)
  case = report.Case(CLASSES, heads.BATCH, heads.DIM)
  factors = FACTORS
  if args.tiny:
    case, factors = report.Case(2000, 16, 32), (1, 1 / 2)
  rule = blocks.block_size(
    batch=case.batch, dim=case.dim, rows=case.classes, platform=common.kind()
  )
  record.add("the rule", block_size=rule, **case._asdict())
  held = heads.Case(case)
  for factor in factors:
    size = max(1, int(rule * factor))
    heads.measure(held, "fused", record, block_size=size)
  return record.finish()


if __name__ == "__main__":
  sys.exit(main())
