"""Every loss, and those over classes with options that make a difference."""

from facejax.training.objectives import definition, registry

C = registry
# The classes of all losses.
ALL = tuple(
  each
  for each in vars(registry).values()
  if isinstance(each, type)
  and issubclass(each, definition.OverClasses | definition.WithinBatch)
)
LOSSES = {
  "softmax": C.Softmax(),
  "softmax without bias": C.Softmax(bias=False),
  "modified_softmax": C.ModifiedSoftmax(),
  "nsl": C.NSL(scale=16),
  "cosface": C.CosFace(scale=16),
  "arcface": C.ArcFace(scale=16),
  "arcface intra": C.ArcFace(scale=16, guard="none", intra_weight=2.0),
  "arcface detached": C.ArcFace(scale=16, gradient="detached"),
  "sub-center arcface": C.ArcFace(scale=16, centers=3),
  "combined": C.Combined(scale=16),
  "l_softmax": C.LSoftmax(),
  "a_softmax": C.ASoftmax(base=3.0),
  "sphereface_r v0": C.SphereFaceR(version="v0", scale=16),
  "sphereface_r v1": C.SphereFaceR(version="v1", scale=16),
  "sphereface_r v2": C.SphereFaceR(version="v2", scale=16, gradient="exact"),
  "sphereface2 C": C.SphereFace2(scale=16),
  "sphereface2 A": C.SphereFace2(kind="A", scale=16),
  "sphereface2 M": C.SphereFace2(kind="M", scale=16, margin=1.7),
  "adaface": C.AdaFace(scale=16, rate=1.0),
  "adaface detached": C.AdaFace(
    scale=16, rate=1.0, guard="none", gradient="detached"
  ),
  "magface": C.MagFace(scale=16, lower_norm=1.0, upper_norm=9.0),
  "magface detached": C.MagFace(
    scale=16, lower_norm=1.0, upper_norm=9.0, gradient="detached"
  ),
  "curricularface": C.CurricularFace(scale=16, decay=0.5),
  "elasticface": C.ElasticFace(scale=16),
  "elasticface cos, rank": C.ElasticFace(
    kind="cos", scale=16, margin=0.35, order="rank"
  ),
  "elasticface code": C.ElasticFace(scale=16, order="code"),
  "uniface": C.UniFace(scale=16),
  "uniface without clamp": C.UniFace(scale=16, clamp=False),
  "circle": C.Circle(scale=16),
  "alpha_cosface": C.AlphaCosFace(scale=16),
  "alpha_cosface reference": C.AlphaCosFace(
    scale=16, margin=0.1, alpha=1.25, place="reference"
  ),
  "alpha_arcface": C.AlphaArcFace(scale=16, alpha=2.0),
  "proxy_nca": C.ProxyNCA(),
  "proxy_nca++": C.ProxyNCA(own_counts=True),
  "proxy_anchor": C.ProxyAnchor(),
  "soft_triple": C.SoftTriple(centers=3),
}
