"""All losses, a line each; recipes know this module as facejax.loss_config.

A new loss is a class with one of the two bases of `definition`, and a line
here. Each has its own fields, so that a recipe offers exactly the flags that
its loss has: another loss is another recipe.
"""

from typing import TypeAlias

from facejax.training.objectives import (
  adaptive,
  alpha,
  annealed,
  definition,
  margins,
  one_vs_all,
  proxies,
  within_batch,
)

Softmax = margins.Softmax
ModifiedSoftmax = margins.ModifiedSoftmax
NSL = margins.NSL
CosFace = margins.CosFace
ArcFace = margins.ArcFace
Combined = margins.Combined
SphereFaceR = margins.SphereFaceR
Circle = margins.Circle
LSoftmax = annealed.LSoftmax
ASoftmax = annealed.ASoftmax
AdaFace = adaptive.AdaFace
MagFace = adaptive.MagFace
CurricularFace = adaptive.CurricularFace
ElasticFace = adaptive.ElasticFace
SphereFace2 = one_vs_all.SphereFace2
UniFace = one_vs_all.UniFace
AlphaCosFace = alpha.AlphaCosFace
AlphaArcFace = alpha.AlphaArcFace
Triplet = within_batch.Triplet
Contrastive = within_batch.Contrastive
SupCon = within_batch.SupCon
PairCircle = within_batch.PairCircle
NTXent = within_batch.NTXent
MultiSimilarity = within_batch.MultiSimilarity
ProxyNCA = proxies.ProxyNCA
ProxyAnchor = proxies.ProxyAnchor
SoftTriple = proxies.SoftTriple

# What a configuration may hold: any class with one of the two bases.
LossConfig: TypeAlias = definition.Loss
