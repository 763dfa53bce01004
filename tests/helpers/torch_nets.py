"""Twins of the nets in plain PyTorch, under the names of the field's code.

Written from the architectures, with the names of arcface_torch (iResNet,
MobileFaceNet, ViT) and of SphereFace's released files.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class IResNetBlock(nn.Module):
  def __init__(self, before, after, stride, se):
    super().__init__()
    self.bn1 = nn.BatchNorm2d(before)
    self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
    self.bn2 = nn.BatchNorm2d(after)
    self.prelu = nn.PReLU(after)
    self.conv2 = nn.Conv2d(after, after, 3, stride, padding=1, bias=False)
    self.bn3 = nn.BatchNorm2d(after)
    self.se = SqueezeExcite(after) if se else nn.Identity()
    self.downsample = nn.Identity()
    if stride != 1 or before != after:
      conv = nn.Conv2d(before, after, 1, stride, bias=False)
      self.downsample = nn.Sequential(conv, nn.BatchNorm2d(after))

  def forward(self, x):
    y = self.conv1(self.bn1(x))
    y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
    return self.se(y) + self.downsample(x)


class SqueezeExcite(nn.Module):
  def __init__(self, channels):
    super().__init__()
    self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
    self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

  def forward(self, x):
    mean = F.adaptive_avg_pool2d(x, 1)
    return x * torch.sigmoid(self.fc2(F.relu(self.fc1(mean))))


class IResNet(nn.Module):
  def __init__(
    self, blocks, *, widths=(64, 128, 256, 512), se=False, dim, image_size
  ):
    super().__init__()
    channels = widths[0]
    self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    self.bn1 = nn.BatchNorm2d(channels)
    self.prelu = nn.PReLU(channels)
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
      stack = []
      for i in range(count):
        stack.append(IResNetBlock(channels, width, 1 if i else 2, se))
        channels = width
      setattr(self, f"layer{stage}", nn.Sequential(*stack))
    self.bn2 = nn.BatchNorm2d(channels)
    flat = channels * math.prod(side // 16 for side in image_size)
    self.fc = nn.Linear(flat, dim)
    self.features = nn.BatchNorm1d(dim)
    self.features.weight.requires_grad = False

  def forward(self, x):
    x = self.prelu(self.bn1(self.conv1(x)))
    for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
      x = layer(x)
    return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


class SphereFace(nn.Module):
  def __init__(self, units, *, dim, image_size):
    super().__init__()
    self.units = units
    channels, (height, width) = 3, image_size
    for stage, count in enumerate(units, 1):
      out = 32 * 2**stage
      for i in range(1, 2 * count + 2):
        stride = 2 if i == 1 else 1
        conv = nn.Conv2d(channels, out, 3, stride, padding=1)
        setattr(self, f"conv{stage}_{i}", conv)
        setattr(self, f"relu{stage}_{i}", nn.PReLU(out))
        channels = out
      height, width = -(-height // 2), -(-width // 2)
    self.fc5 = nn.Linear(channels * height * width, dim)

  def step(self, stage, i, x):
    x = getattr(self, f"conv{stage}_{i}")(x)
    return getattr(self, f"relu{stage}_{i}")(x)

  def forward(self, x):
    for stage, count in enumerate(self.units, 1):
      x = self.step(stage, 1, x)
      for i in range(2, 2 * count + 2, 2):
        x = x + self.step(stage, i + 1, self.step(stage, i, x))
    return self.fc5(torch.flatten(x, 1))


class Unit(nn.Module):
  def __init__(
    self, before, after, kernel=1, stride=1, pad=0, groups=1, act=True
  ):
    super().__init__()
    conv = nn.Conv2d(
      before, after, kernel, stride, pad, groups=groups, bias=False
    )
    act = [nn.PReLU(after)] if act else []
    self.layers = nn.Sequential(conv, nn.BatchNorm2d(after), *act)

  def forward(self, x):
    return self.layers(x)


class Bottleneck(nn.Module):
  def __init__(self, before, after, hidden, stride):
    super().__init__()
    self.residual = stride == 1
    self.layers = nn.Sequential(
      Unit(before, hidden),
      Unit(hidden, hidden, 3, stride, 1, groups=hidden),
      Unit(hidden, after, act=False),
    )

  def forward(self, x):
    return x + self.layers(x) if self.residual else self.layers(x)


class Stack(nn.Module):
  def __init__(self, *layers):
    super().__init__()
    self.layers = nn.Sequential(*layers)

  def forward(self, x):
    return self.layers(x)


class MobileFaceNet(nn.Module):
  def __init__(self, scale, blocks, *, dim, image_size):
    super().__init__()
    a, b = 64 * scale, 128 * scale

    def stack(count, channels, hidden):
      return Stack(
        *(Bottleneck(channels, channels, hidden, 1) for _ in range(count))
      )

    second = Unit(a, a, 3, 1, 1, groups=64)
    self.layers = nn.ModuleList(
      [
        Unit(3, a, 3, 2, 1),
        second if blocks[0] == 1 else stack(blocks[0], a, 128),
        Bottleneck(a, a, 128, 2),
        stack(blocks[1], a, 128),
        Bottleneck(a, b, 256, 2),
        stack(blocks[2], b, 256),
        Bottleneck(b, b, 512, 2),
        stack(blocks[3], b, 256),
      ]
    )
    self.conv_sep = Unit(b, 512)
    size = tuple(-(-side // 16) for side in image_size)
    self.features = Stack(
      Unit(512, 512, size, groups=512, act=False),
      nn.Flatten(),
      nn.Linear(512, dim, bias=False),
      nn.BatchNorm1d(dim),
    )

  def forward(self, x):
    for layer in self.layers:
      x = layer(x)
    return self.features(self.conv_sep(x))


class Attention(nn.Module):
  def __init__(self, dim, heads):
    super().__init__()
    self.heads = heads
    self.qkv = nn.Linear(dim, 3 * dim, bias=False)
    self.proj = nn.Linear(dim, dim)

  def forward(self, x):
    batch, tokens, dim = x.shape
    qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / (dim // self.heads) ** 0.5).softmax(-1)
    return self.proj((weights @ v).transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
  def __init__(self, dim, ratio):
    super().__init__()
    wide = ratio * dim
    self.fc1, self.fc2 = nn.Linear(dim, wide), nn.Linear(wide, dim)

  def forward(self, x):
    return self.fc2(F.relu6(self.fc1(x)))


class ViTBlock(nn.Module):
  def __init__(self, dim, heads, ratio):
    super().__init__()
    self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
    self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, ratio)

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
  def __init__(self, dim, patch):
    super().__init__()
    self.proj = nn.Conv2d(3, dim, patch, patch)

  def forward(self, x):
    return self.proj(x).flatten(2).transpose(1, 2)


class ViT(nn.Module):
  def __init__(
    self, width, depth, heads=8, patch=9, ratio=4, *, dim, image_size
  ):
    super().__init__()
    tokens = (image_size[0] // patch) * (image_size[1] // patch)
    self.patch_embed = PatchEmbed(width, patch)
    self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
    stack = [ViTBlock(width, heads, ratio) for _ in range(depth)]
    self.blocks = nn.ModuleList(stack)
    self.norm = nn.LayerNorm(width)
    self.feature = nn.Sequential(
      nn.Linear(tokens * width, width, bias=False),
      nn.BatchNorm1d(width, eps=2e-5),
      nn.Linear(width, dim, bias=False),
      nn.BatchNorm1d(dim, eps=2e-5),
    )
    self.mask_token = nn.Parameter(torch.zeros(1, 1, width))

  def forward(self, x):
    x = self.patch_embed(x) + self.pos_embed
    for block in self.blocks:
      x = block(x)
    return self.feature(torch.flatten(self.norm(x), 1))


NETS = {
  "iresnet10_slim": lambda **options: IResNet(
    (1, 1, 1, 1), widths=(16, 64, 128, 256), **options
  ),
  "iresnet18": lambda **options: IResNet((2, 2, 2, 2), **options),
  "iresnet50": lambda **options: IResNet((3, 4, 14, 3), **options),
  "sphereface20": lambda **options: SphereFace((1, 2, 4, 1), **options),
  "mobilefacenet": lambda **options: MobileFaceNet(1, (1, 4, 6, 2), **options),
  "mbf": lambda **options: MobileFaceNet(2, (1, 4, 6, 2), **options),
  "mbf_large": lambda **options: MobileFaceNet(4, (2, 8, 12, 4), **options),
  "vit_t": lambda **options: ViT(256, 12, **options),
  "vit_b": lambda **options: ViT(512, 24, **options),
}


def randomized(net, *, seed=0):
  """The twin with every weight and statistic random, of a sound scale."""
  generator = torch.Generator().manual_seed(seed)

  def normal(tensor, std, mean=0.0):
    with torch.no_grad():
      tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

  for module in net.modules():
    if isinstance(module, nn.Conv2d | nn.Linear):
      normal(module.weight, module.weight[0].numel() ** -0.5)
      if module.bias is not None:
        normal(module.bias, 0.1)
    elif isinstance(module, nn.PReLU):
      normal(module.weight, 0.1, 0.25)
    elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d | nn.BatchNorm2d):
      if module.weight is not None and module.weight.requires_grad:
        normal(module.weight, 0.1, 1.0)
      if module.bias is not None:
        normal(module.bias, 0.1)
      if not isinstance(module, nn.LayerNorm):
        normal(module.running_mean, 0.1)
        normal(module.running_var, 0.1, 1.0)
        module.running_var.abs_()
  if isinstance(net, ViT):
    normal(net.pos_embed, 0.5)
    normal(net.mask_token, 0.5)
  return net


def arrays(net):
  """Its state dict as numpy arrays."""
  return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def embed(net, images, *, train):
  """Embeddings of uint8 images [batch, height, width, 3]."""
  pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
  with torch.no_grad():
    return net.train(train)((pixels - 127.5) / 127.5).numpy()
