"""The step that `bench_head.py` is compared with: Partial FC in PyTorch.

  echo "step 1.0 3" | python scripts/bench_head_torch.py --case 102400x256x512

Needs PyTorch (`pip install torch==2.13.0`), no JAX. Says what it is, then
answers each line `step METHOD REPEATS` on its standard input with one line of
JSON: seconds a step, by the wall and of all cores, and by how many bytes the
peak of its memory has grown beyond the state, so far: begin with the smallest.
Methods: the --rates, and matmul, one large product. A method that the memory
is too small for is answered with {"error": ...}.

Written from the published description, one process, with CosFace:

  rate < 1: all classes of the batch, then random others: the largest of C
    uniform numbers, those of the batch's classes set to 2; W[index] is an
    ordinary gather, so its gradient is [C, D] and SGD acts on all rows.
  forward: cosines of normalised rows (with --dtype bfloat16 in autocast, then
    float32), clamped to [-1, 1]; the margin written into the target's column;
    softmax in place, kept for the backward pass.
  backward: softmax minus a one-hot matrix, over B; autograd does the rest.
  update: torch.optim.SGD, momentum 0.9, weight decay 5e-4, over all of W.

References:
  An et al., Partial FC: Training 10 Million Identities on a Single Machine,
    2021.
  An et al., Killing Two Birds with One Stone: Efficient and Robust Training of
    Face Recognition CNNs by Partial FC, 2022.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import torch
from torch.nn import functional

SCALE, MARGIN = 64.0, 0.35
# Too small for training to change what a step costs.
LEARNING_RATE = 1e-4
# Rows of the matrices of the method "matmul".
SQUARE = {"cpu": 2048, "cuda": 8192}


class SoftmaxCrossEntropy(torch.autograd.Function):
  """Mean of -log softmax at the labels; the logits are overwritten."""

  @staticmethod
  def forward(ctx, logits, labels):
    logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
    softmax = logits.div_(logits.sum(dim=1, keepdim=True))
    ctx.save_for_backward(softmax, labels)
    ctx.mark_dirty(logits)
    ctx.set_materialize_grads(False)  # none of size [B, C] for the second
    chosen = softmax.gather(1, labels[:, None])
    # As the field does; it caps the loss at 69, the gradient is unharmed.
    return -chosen.clamp_min(1e-30).log().mean(), logits

  @staticmethod
  def backward(ctx, *gradients):
    softmax, labels = ctx.saved_tensors
    one_hot = torch.zeros_like(softmax).scatter_(1, labels[:, None], 1)
    return softmax.sub_(one_hot).div_(len(labels)) * gradients[0], None


class PartialFC:
  """Prototypes, their optimizer and one batch."""

  def __init__(self, classes: int, batch: int, dim: int, *, device, dtype):
    torch.manual_seed(0)
    self.dtype = dtype
    weight = torch.empty(classes, dim, device=device).normal_(0, 0.01)
    self.weight = torch.nn.Parameter(weight)
    self.embeddings = torch.randn(batch, dim, device=device)
    self.labels = torch.randint(classes, (batch,), device=device)
    self.optimizer = torch.optim.SGD(
      [self.weight], lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4
    )
    # Part of the state, not of what a step needs on top.
    momentum = torch.empty_like(weight).zero_()  # in memory, not on demand
    self.optimizer.state[self.weight]["momentum_buffer"] = momentum

  def step(self, rate: float) -> torch.Tensor:
    """One step over a share `rate` of the classes; returns the loss."""
    embeddings = self.embeddings.clone().requires_grad_()
    weight, labels = self.weight, self.labels
    if rate < 1:
      index, labels = self.sample(rate)
      weight = weight[index]
    loss = margin_softmax(embeddings, weight, labels, self.dtype)
    self.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    self.optimizer.step()
    self.optimizer.zero_grad(set_to_none=True)
    return loss.detach()

  def sample(self, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sorted class ids and where the labels are among them."""
    classes = len(self.weight)
    positive = torch.unique(self.labels)
    order = torch.rand(classes, device=self.weight.device)
    order[positive] = 2
    count = max(int(rate * classes), len(positive))
    index = torch.topk(order, count).indices.sort().values
    return index, torch.searchsorted(index, self.labels)


def margin_softmax(
  embeddings: torch.Tensor,
  weight: torch.Tensor,
  labels: torch.Tensor,
  dtype: torch.dtype,
) -> torch.Tensor:
  """Mean CosFace loss over the classes of `weight`."""
  narrow = dtype != torch.float32
  with torch.autocast(weight.device.type, dtype=dtype, enabled=narrow):
    cosine = functional.linear(
      functional.normalize(embeddings), functional.normalize(weight)
    )
  logits = cosine.float().clamp(-1, 1)
  rows = torch.arange(len(labels), device=labels.device)
  logits[rows, labels] = logits[rows, labels] - MARGIN
  return SoftmaxCrossEntropy.apply(logits * SCALE, labels)[0]  # type: ignore


def peak_memory(device: str) -> int | None:
  """Most bytes held so far: on a GPU, or by the process where Linux tells."""
  if device == "cuda":
    return torch.cuda.max_memory_allocated()
  status = pathlib.Path("/proc/self/status")
  if not status.exists():
    return None
  return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])


def serve(head: PartialFC, device: str) -> None:
  """Answers the lines of standard input until it ends."""
  square = torch.randn(SQUARE[device], SQUARE[device], device=device)
  square = square.to(head.dtype)
  settled = peak_memory(device)

  def work(name: str) -> None:
    if name == "matmul":
      torch.mm(square, square)
    else:
      head.step(float(name))

  for line in sys.stdin:
    _, name, repeats = line.split()
    try:
      answer: dict[str, float | str | None] = timed(work, name, int(repeats))
    except torch.cuda.OutOfMemoryError as error:
      print(json.dumps({"error": str(error).splitlines()[0]}), flush=True)
      continue
    if name != "matmul":
      peak = peak_memory(device)
      answer["growth"] = peak - settled if peak and settled else None
    print(json.dumps(answer), flush=True)


def timed(work, name: str, repeats: int) -> dict[str, float | str | None]:
  """Seconds of one of many in a row."""
  wall, cpu = time.perf_counter(), time.process_time()
  for _ in range(repeats):
    work(name)
  if torch.cuda.is_available():
    torch.cuda.synchronize()
  return {
    "wall": (time.perf_counter() - wall) / repeats,
    "cpu": (time.process_time() - cpu) / repeats,
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--case", required=True, metavar="CxBxD", help="classes, batch, size")
  add("--rates", default="0.1,1.0", help="shares of the classes (0.1,1.0)")
  add("--device", choices=SQUARE, default="cpu", help="(cpu)")
  add("--dtype", choices=("float32", "bfloat16"), default="float32")
  args = parser.parse_args()
  torch.set_num_threads(os.cpu_count() or 1)
  classes, batch, dim = map(int, args.case.split("x"))
  kind = {"device": args.device, "dtype": getattr(torch, args.dtype)}
  # The libraries' own memory is not the step's.
  PartialFC(64, 8, dim, **kind).step(1.0)
  head = PartialFC(classes, batch, dim, **kind)
  # Last: its result would hide a part of what a step needs.
  methods = {rate: {} for rate in args.rates.split(",")}
  operations = 2 * SQUARE[args.device] ** 3
  methods["matmul"] = {"operations": operations, "dtype": args.dtype}
  about = {"version": torch.__version__, "threads": torch.get_num_threads()}
  print(json.dumps({**about, "methods": methods}), flush=True)
  serve(head, args.device)


if __name__ == "__main__":
  main()
