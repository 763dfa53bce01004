"""An optimizer that replaces the recipe's brings its usual rate along."""

import pytest

from facejax.training import config as config_lib
from facejax.training import recipe, run_stages, usual_optim
from facejax.training.optim_config import HeadOptimConfig, OptimConfig


def optim(*flags, config="cosface.py"):
  return recipe.parse(["--config", config, *flags]).optim


def rates(found):
  head = found.of_head()
  return (
    (found.learning_rate, found.weight_decay),
    (head.learning_rate, head.weight_decay),
  )


@pytest.mark.parametrize("name", ["adagrad", "adamw", "lion"])
def test_the_optimizer_by_itself(name):
  usual = tuple(usual_optim.USUAL[name].values())
  assert rates(optim("--optim.name", name)) == (usual, usual)
  # As one word, too.
  assert rates(optim(f"--optim.name={name}")) == (usual, usual)


def test_what_is_given_stays():
  found = optim("--optim.name", "adamw", "--optim.learning_rate", "0.003")
  assert rates(found)[0] == (0.003, 0.1)
  found = optim("--optim.name", "adamw", "--optim.weight-decay=0.1234")
  assert rates(found)[0] == (0.001, 0.1234)


def test_the_recipe_s_own_keeps_its_values():
  before = OptimConfig(name="adamw", learning_rate=0.7, weight_decay=0.2)
  assert usual_optim.filled(before, before, ["optim.name"]) == before
  assert rates(optim("--optim.name", "sgd")) == rates(optim())
  found = optim("--optim.name", "adamw", config="lvface.py")
  assert found == optim(config="lvface.py")


def test_back_to_sgd():
  found = optim("--optim.name", "sgd", config="lvface.py")
  assert rates(found)[0] == (0.1, 5e-4)


def test_of_the_head_alone():
  found = optim("--optim.head.name", "adamw")
  assert rates(found) == ((0.1, 5e-4), (0.001, 0.1))
  found = optim("--optim.head.name", "lion", "--optim.head.weight-decay", "0.5")
  assert rates(found) == ((0.1, 5e-4), (1e-4, 0.5))


def test_a_head_that_stays_does_not_take_the_trunk_s_new_rate():
  found = optim("--optim.name", "adamw", "--optim.head.name", "sgd")
  assert rates(found) == ((0.001, 0.1), (0.1, 5e-4))
  own = HeadOptimConfig(name="sgd", learning_rate=0.3)
  before = OptimConfig(head=own)
  asked = OptimConfig(name="adamw", head=own)
  found = usual_optim.filled(asked, before, ["optim.name"])
  assert rates(found) == ((0.001, 0.1), (0.3, 5e-4))


@pytest.mark.parametrize("name", ["lars", "lamb", "muon"])
def test_those_without_a_usual_rate_keep_the_recipe_s(name):
  found = optim("--optim.name", name, "--optim.head.name", "sgd")
  assert rates(found) == ((0.1, 5e-4), (0.1, 5e-4))


def test_in_a_stage():
  config = config_lib.Config(
    steps=10,
    stages=("0.2 optim.name=adamw", "0.6 optim.name=sgd optim.weight_decay=0"),
  )
  first, second, third = run_stages.plan(config, None)
  assert rates(first.config.optim)[0] == (0.1, 5e-4)
  assert rates(second.config.optim)[0] == (0.001, 0.1)
  assert rates(third.config.optim)[0] == (0.1, 0)
