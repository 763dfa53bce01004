"""What other trainers call things, and what they are called here."""

import dataclasses
import difflib
import itertools
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

Flag = tuple[tuple[str, ...], tuple[str, ...] | None]

# Flags of others, by their last part, without hyphens: the flag here.
_FLAGS = {
  "batch-size": "batch batchsize bs localbatchsize perdevicetrainbatchsize",
  "checkpoint.every": "savefreq saveevery savesteps saveinterval",
  "config": "loss lossname losstype head headtype recipe preset",
  "data.image-size": "inputsize imgsize imsize",
  "data.path": "data datadir datapath dataroot dataset rec root traindir"
  " traindata trainroot trainrec imgroot",
  "data.threads": "threads",
  "data.workers": "numworkers nworkers workers dataloaderworkers j",
  "epochs": "epoch numepoch numepochs nepochs maxepoch maxepochs totalepoch",
  "eval.every": "evalfreq evalsteps valfreq valinterval",
  "eval.pairs": "val valtargets valpairs valdata lfwpairs testset",
  "head.rate": "samplerate",
  "init-from": "pretrained weights pretrain finetune startfrom checkpointpath",
  "log-every": "frequent printfreq logfreq loginterval loggingsteps verbose",
  "loss.margin": "m margins marginlist m2 m3",
  "loss.scale": "s gamma",
  "mesh.devices": "gpus gpu numgpus ngpus nprocpernode device",
  "model.dtype": "fp16 bf16 amp mixedprecision half",
  "model.embedding-dim": "embeddingsize embsize featdim featuredim dim",
  "model.name": "net network backbone arch architecture model modelname",
  "optim.learning-rate": "lr baselr lrbase initlr initiallr",
  "optim.milestones": "lrsteps lrmilestones steplr decayepoch decaysteps",
  "optim.name": "optimizer opt optimname",
  "optim.schedule": "scheduler lrscheduler lrschedule lrpolicy",
  "optim.warmup": "warmupepoch warmupepochs warmupsteps warmupratio",
  "optim.weight-decay": "wd decay l2",
  "steps": "maxsteps maxiter iterations iters numsteps totalstep totalsteps",
  "workdir": "out output outputdir outdir savedir saveroot ckptdir logdir"
  " logroot modeldir expdir",
}
_NEEDLESS = dict.fromkeys(
  ("resume", "autoresume", "resumefrom", "continue"),
  "the same command again, with the same --workdir, goes on where it stopped",
)
# Values of others, by flag, as one word without hyphens: the value here.
_VALUES = {
  "--model.name": {
    **{
      f"{family}{depth}": f"iresnet{depth.replace('101', '100')}"
      for family in ("r", "ir", "resnet", "iresnet", "irse", "irs")
      for depth in ("18", "34", "50", "100", "101", "200")
    },
    **{
      f"vit{size}": f"vit_{size[0]}"
      for size in ("tiny", "small", "base", "large", "huge")
    },
    "mobilefacenetlarge": "mbf_large",
    "mobilenet": "mobilefacenet",
    **{f"sphere{n}": f"sphereface{n}" for n in (4, 10, 20, 36, 64)},
  },
  "--model.dtype": {
    "fp16": "bfloat16",
    "float16": "bfloat16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "fp64": "float64",
  },
  "--data.source": {
    **dict.fromkeys(("rec", "mxnet", "mxrec"), "record_io"),
    **dict.fromkeys(("imagefolder", "images", "dir"), "folder"),
  },
  "--optim.schedule": {
    **dict.fromkeys(("poly", "polylr"), "polynomial"),
    **dict.fromkeys(("cos", "cosineannealing", "cosinelr"), "cosine"),
    **dict.fromkeys(("multistep", "steplr"), "step"),
    **dict.fromkeys(("none", "fixed"), "constant"),
  },
  "--head.implementation": dict.fromkeys(("pfc", "partial"), "partial_fc"),
}
# Losses of others: the recipe here.
_RECIPES = {
  "insightface": "arcface",
  "additiveangularmargin": "arcface",
  "lmcl": "cosface",
  "largemargincosine": "cosface",
  "amsm": "am_softmax",
  "asoftmax": "sphereface",
  "triplet": "facenet",
}


def plain(name: str) -> str:
  """A name without case and punctuation.

  >>> plain("--IR_SE-50")
  'irse50'
  """
  return re.sub(r"[^a-z0-9]", "", name.lower())


def flags(command: Any, prefix: str = "") -> Iterator[Flag]:
  """Each flag of a command, a switch with its opposite, and what may follow."""
  hints = typing.get_type_hints(type(command))
  for field in dataclasses.fields(command):
    value, hint = getattr(command, field.name), hints[field.name]
    name = prefix + field.name.replace("_", "-")
    if dataclasses.is_dataclass(value):
      yield from flags(value, f"{name}.")
    elif hint is bool:
      before, dot, last = name.rpartition(".")
      yield (f"--{name}", f"--{before}{dot}no-{last}"), None
    else:
      yield (f"--{name}",), choices(hint)


def choices(hint: Any) -> tuple[str, ...] | None:
  """The values of a Literal, also within X | None.

  >>> choices(typing.Literal["a", "b"] | None)
  ('a', 'b')
  """
  if typing.get_origin(hint) is typing.Literal:
    return tuple(str(value) for value in typing.get_args(hint))
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    found = [choices(part) for part in typing.get_args(hint)]
    return next(filter(None, found), None)
  return None


def check(arguments: Sequence[str], known: Sequence[Flag]) -> None:
  """Refuses flags and values of others that have another name here.

  What is no name of anybody is left to whoever reads the command line.

  Raises:
    ValueError: with the name here.
  """
  allowed = {flag: values for names, values in known for flag in names}
  for word, after in itertools.zip_longest(arguments, arguments[1:]):
    if word == "--":
      return
    flag, equals, value = word.partition("=")
    if not flag.startswith("--"):
      continue
    typed, flag = flag, "--" + flag[2:].replace("_", "-")
    if flag not in allowed and flag != "--help":
      _refuse_flag(typed, allowed)
    elif values := allowed.get(flag):
      _refuse_value(flag, value if equals else after or "", values)


def _called(other: str) -> list[str]:
  """The flags here that others call so, as `plain` has it."""
  return [ours for ours, others in _FLAGS.items() if other in others.split()]


def _refuse_flag(flag: str, allowed: Mapping[str, Any]) -> None:
  last = plain(flag.rpartition(".")[2])
  if last in _NEEDLESS:
    raise ValueError(f"there is no {flag}: {_NEEDLESS[last]}")
  near = [f"--{ours}" for ours in _called(last)]
  same = [name for name in allowed if plain(name.rpartition(".")[2]) == last]
  # The trunk's momentum, not where the head's may differ from it.
  outer = min((name.count(".") for name in same), default=0)
  near += [name for name in same if name.count(".") == outer]
  near = [name for name in dict.fromkeys(near) if name in allowed]
  if near:
    raise ValueError(f"there is no {flag}; did you mean {' or '.join(near)}?")


def _refuse_value(flag: str, value: str, values: Collection[str]) -> None:
  if value in values:
    return
  same = {plain(one): one for one in values} | _VALUES.get(flag, {})
  near = same.get(plain(value))
  if near in values:
    raise ValueError(
      f"{flag} {value}: did you mean {near}? It is one of {', '.join(values)}"
    )


def recipe(
  name: str, recipes: Collection[str], presets: Collection[str]
) -> str:
  """What a recipe is called here that somebody called by another name.

  Args:
    name: as it was given, without a preset.
    recipes: files that there are, `cosface.py` and so on.
    presets: what may follow each of them.

  Returns:
    A hint such as "did you mean arcface.py?"; empty without an idea.
  """
  stem = plain(re.split(r"[/\\]", name.removesuffix(".py"))[-1])
  net = _VALUES["--model.name"].get(stem)
  if net:
    return f"a net is chosen by --model.name {net}"
  for preset in presets:
    if plain(preset) == stem:
      return f"did you mean cosface.py:{preset}? It is a preset of every recipe"
  same = {plain(file.removesuffix(".py")): file for file in recipes}
  other = _RECIPES.get(stem)
  near = same.get(stem) or (other and f"{other}.py")
  near = near or next(
    iter(difflib.get_close_matches(name, sorted(recipes), n=1)), None
  )
  return f"did you mean {near}?" if near else ""


def preset(name: str, presets: Collection[str]) -> str:
  """The presets that somebody may have meant, as a hint; empty if none.

  >>> preset("r50", ("lfw", "casia_r50"))
  '; did you mean casia_r50?'
  """
  near = [one for one in presets if plain(name) and plain(name) in plain(one)]
  near = near or difflib.get_close_matches(name, presets, n=1)
  return f"; did you mean {' or '.join(near)}?" if near else ""


def field(error: TypeError, known: Collection[Flag]) -> str:
  """A hint at a field of a configuration that does not exist; or nothing."""
  found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
  if found is None:
    return ""
  names = {
    flag.rpartition(".")[2].removeprefix("--").replace("-", "_")
    for flags, _ in known
    for flag in flags[:1]
  }
  near = [ours.replace("-", "_") for ours in _called(plain(found[1]))]
  near += difflib.get_close_matches(found[1], sorted(names), n=1)
  return f"; did you mean {near[0]}?" if near else ""
