"""The tables of FaceNet's nets and of their small relatives.

References:
  Schroff, Kalenichenko, Philbin, FaceNet: A Unified Embedding for Face
    Recognition and Clustering, 2015 (NN1 is Table 1, NN2 is Table 2).
  Amos, Ludwiczuk, Satyanarayanan, OpenFace: A general-purpose face
    recognition library with mobile applications, 2016 (nn4.small2).
"""

from facejax.models import inception, zeiler_fergus

_Block = inception.BlockSpec
_Conv = zeiler_fergus.Conv

_NN1 = zeiler_fergus.ZeilerFergusSpec(
  (
    _Conv("conv1", 64, 7, stride=2),
    "pool1",
    "rnorm1",
    _Conv("conv2a", 64, 1),
    _Conv("conv2", 192, 3),
    "rnorm2",
    "pool2",
    _Conv("conv3a", 192, 1),
    _Conv("conv3", 384, 3),
    "pool3",
    _Conv("conv4a", 384, 1),
    _Conv("conv4", 256, 3),
    _Conv("conv5a", 256, 1),
    _Conv("conv5", 256, 3),
    _Conv("conv6a", 256, 1),
    _Conv("conv6", 256, 3),
    "pool4",
  ),
  hidden=32 * 128,
  image_size=(220, 220),
)

_NN2 = {
  "3a": _Block(64, (96, 128), (16, 32), "max", 32),
  "3b": _Block(64, (96, 128), (32, 64), "l2", 64),
  "3c": _Block(0, (128, 256), (32, 64), "max", 0, stride=2),
  "4a": _Block(256, (96, 192), (32, 64), "l2", 128),
  "4b": _Block(224, (112, 224), (32, 64), "l2", 128),
  "4c": _Block(192, (128, 256), (32, 64), "l2", 128),
  "4d": _Block(160, (144, 288), (32, 64), "l2", 128),
  "4e": _Block(0, (160, 256), (64, 128), "max", 0, stride=2),
  "5a": _Block(384, (192, 384), (48, 128), "l2", 128),
  "5b": _Block(384, (192, 384), (48, 128), "max", 128),
}

# The paper leaves out the 5x5 convolutions "in the higher layers"; that these
# are 5a and 5b is OpenFace's reading.
_NN4 = _NN2 | {
  "5a": _Block(384, (192, 384), None, "l2", 128),
  "5b": _Block(384, (192, 384), None, "max", 128),
}

_NN4_SMALL2 = {name: _NN2[name] for name in ("3a", "3b", "3c", "4a", "4e")} | {
  "5a": _Block(256, (96, 384), None, "l2", 96),
  "5b": _Block(256, (96, 384), None, "max", 96),
}

# The paper reports that 5x5 convolutions can be left out "throughout" at
# little loss; fewer, wider branches also compile sooner.
_SLIM = {
  "3a": _Block(48, (48, 64), None, "max", 16),
  "3b": _Block(64, (48, 96), None, "l2", 32),
  "3c": _Block(0, (64, 128), None, "max", 0, stride=2),
  "4a": _Block(128, (64, 160), None, "l2", 64),
  "4e": _Block(0, (96, 192), None, "max", 0, stride=2),
  "5a": _Block(192, (96, 256), None, "l2", 64),
}

NETS: dict[str, inception.InceptionSpec | zeiler_fergus.ZeilerFergusSpec] = {
  "nn1": _NN1,
  # Published at 224x224. The average at its end makes it take other sizes:
  # at 160x160 it is NN3.
  "nn2": inception.InceptionSpec(_NN2),
  "nn3": inception.InceptionSpec(_NN2, image_size=(160, 160)),
  # Published at 96x96, both.
  "nn4": inception.InceptionSpec(_NN4),
  "nn4_small2": inception.InceptionSpec(_NN4_SMALL2),
  # Of no paper: for CPUs and small images, with about the cost of
  # iresnet10_slim.
  "inception_slim": inception.InceptionSpec(
    _SLIM, stem=(32, 32, 64), stem_kernel=5, stem_pool=False
  ),
}
