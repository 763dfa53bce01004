"""More twins in plain PyTorch: nets that `facejax.convert` reads.

Written from the architectures, with the names of AdaFace and CVLface (IR),
InsightFace_Pytorch and face.evoLVe (IR without the inner BatchNorm),
facenet-pytorch (Inception-ResNet v1), and MagFace's and ElasticFace's
variations of arcface_torch.
"""

import torch
from torch import nn
from torch.nn import functional as F

from helpers import torch_nets

WIDTHS = (64, 128, 256, 512)


class IRBlock(nn.Module):
  def __init__(self, before, after, stride, *, se, inner_bn):
    super().__init__()
    self.shortcut_layer = nn.MaxPool2d(1, stride)
    if before != after:
      conv = nn.Conv2d(before, after, 1, stride, bias=False)
      self.shortcut_layer = nn.Sequential(conv, nn.BatchNorm2d(after))
    self.res_layer = nn.Sequential(
      nn.BatchNorm2d(before),
      nn.Conv2d(before, after, 3, padding=1, bias=False),
      *([nn.BatchNorm2d(after)] if inner_bn else []),
      nn.PReLU(after),
      nn.Conv2d(after, after, 3, stride, padding=1, bias=False),
      nn.BatchNorm2d(after),
    )
    if se:
      name = "se_block" if inner_bn else str(len(self.res_layer))
      self.res_layer.add_module(name, torch_nets.SqueezeExcite(after))

  def forward(self, x):
    return self.res_layer(x) + self.shortcut_layer(x)


class IR(nn.Module):
  """`evolve` for the nets of InsightFace_Pytorch and face.evoLVe."""

  def __init__(
    self, blocks, *, dim, image_size, se=False, evolve=False, widths=WIDTHS
  ):
    super().__init__()
    channels, stack = widths[0], []
    self.input_layer = nn.Sequential(
      nn.Conv2d(3, channels, 3, padding=1, bias=False),
      nn.BatchNorm2d(channels),
      nn.PReLU(channels),
    )
    for width, count in zip(widths, blocks, strict=True):
      for i in range(count):
        stride = 1 if i else 2
        stack.append(
          IRBlock(channels, width, stride, se=se, inner_bn=not evolve)
        )
        channels = width
    self.body = nn.Sequential(*stack)
    height, width = image_size
    self.output_layer = nn.Sequential(
      nn.BatchNorm2d(channels),
      nn.Dropout(0.0),  # as published it drops 0.4
      nn.Flatten(),
      nn.Linear(channels * (height // 16) * (width // 16), dim),
      nn.BatchNorm1d(dim, affine=evolve),
    )

  def forward(self, x):
    return self.output_layer(self.body(self.input_layer(x)))


class ReluConv(nn.Module):
  def __init__(self, before, after, kernel=1, stride=1, padding=0):
    super().__init__()
    self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
    self.bn = nn.BatchNorm2d(after, eps=1e-3)

  def forward(self, x):
    return F.relu(self.bn(self.conv(x)))


def _branch(before, *convs):
  made = []
  for after, *rest in convs:
    made.append(ReluConv(before, after, *rest))
    before = after
  return made[0] if len(made) == 1 else nn.Sequential(*made)


class Branches(nn.Module):
  """Branches of (channels, kernel, stride, padding), and what follows them."""

  def __init__(self, before, *branches, scale=0.0, relu=True):
    super().__init__()
    self.count, self.scale, self.relu = len(branches), scale, relu
    for i, convs in enumerate(branches):
      setattr(self, f"branch{i}", _branch(before, *convs))
    if scale:
      joined = sum(convs[-1][0] for convs in branches)
      self.conv2d = nn.Conv2d(joined, before, 1)

  def forward(self, x):
    found = [getattr(self, f"branch{i}")(x) for i in range(self.count)]
    if not self.scale:
      return torch.cat([*found, F.max_pool2d(x, 3, 2)], 1)
    y = self.conv2d(torch.cat(found, 1)) * self.scale + x
    return F.relu(y) if self.relu else y


def _block35():
  three = (32, 3, 1, 1)
  branches = ([(32,)], [(32,), three], [(32,), three, three])
  return Branches(256, *branches, scale=0.17)


def _block17():
  last = [(128,), (128, (1, 7), 1, (0, 3)), (128, (7, 1), 1, (3, 0))]
  return Branches(896, [(128,)], last, scale=0.10)


def _block8(scale, relu=True):
  last = [(192,), (192, (1, 3), 1, (0, 1)), (192, (3, 1), 1, (1, 0))]
  return Branches(1792, [(192,)], last, scale=scale, relu=relu)


class InceptionResnetV1(nn.Module):
  def __init__(self, *, dim=512, classes=0, repeats=(5, 10, 5)):
    super().__init__()
    self.conv2d_1a = ReluConv(3, 32, 3, 2)
    self.conv2d_2a = ReluConv(32, 32, 3)
    self.conv2d_2b = ReluConv(32, 64, 3, 1, 1)
    self.conv2d_3b = ReluConv(64, 80)
    self.conv2d_4a = ReluConv(80, 192, 3)
    self.conv2d_4b = ReluConv(192, 256, 3, 2)
    first, second, third = repeats
    self.repeat_1 = nn.Sequential(*(_block35() for _ in range(first)))
    half = (256, 3, 2)
    self.mixed_6a = Branches(256, [(384, 3, 2)], [(192,), (192, 3, 1, 1), half])
    self.repeat_2 = nn.Sequential(*(_block17() for _ in range(second)))
    self.mixed_7a = Branches(
      896,
      [(256,), (384, 3, 2)],
      [(256,), half],
      [(256,), (256, 3, 1, 1), half],
    )
    self.repeat_3 = nn.Sequential(*(_block8(0.20) for _ in range(third)))
    self.block8 = _block8(1.0, relu=False)
    self.last_linear = nn.Linear(1792, dim, bias=False)
    self.last_bn = nn.BatchNorm1d(dim, eps=1e-3)
    if classes:
      self.logits = nn.Linear(dim, classes)

  def forward(self, x):
    x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
    x = self.conv2d_3b(F.max_pool2d(x, 3, 2))
    x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(x)))
    x = self.repeat_2(self.mixed_6a(x))
    x = self.block8(self.repeat_3(self.mixed_7a(x)))
    return self.last_bn(self.last_linear(x.mean((2, 3))))


def magface(blocks, **options):
  """MagFace's: the last scale is trained, and epsilon is 2e-5."""
  net = torch_nets.IResNet(blocks, **options)
  net.features.weight.requires_grad = True
  for module in net.modules():
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
      module.eps = 2e-5
  return net


def elasticface(net):
  """The state dict of an `IResNet` with `se`, in ElasticFace's names."""
  return {
    name.replace(".se.", ".se_block."): tensor
    for name, tensor in net.state_dict().items()
  }
