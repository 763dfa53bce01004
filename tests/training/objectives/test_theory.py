"""Advice on s, which every softmax of cosines times s shares."""

import dataclasses

import pytest
from helpers import loss_cases

from facejax.training.objectives import registry, theory

ALL = loss_cases.ALL


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_published_settings_need_no_advice(loss):
  assert loss().advice(num_classes=10_575, dim=512) == []


def test_a_small_scale_is_advised_against():
  advised = set()
  for loss in ALL:
    if hasattr(loss, "scale"):
      found = dataclasses.replace(loss(), scale=8.0).advice(
        num_classes=10_575, dim=512
      )
      if found:
        assert "loss.scale=8 is below 11.5" in found[0]
        assert "10,575 classes" in found[0]
        advised.add(loss)
  assert advised == {c for c in ALL if issubclass(c, theory.ScaledSoftmax)}
  # Their logits are no cosines, or there are no classes.
  others = {c.name for c in ALL if hasattr(c, "scale")} - {
    c.name for c in advised
  }
  assert others == {
    "sphereface2",
    "uniface",
    "circle",
    "pair_circle",
    "alpha_cosface",
    "alpha_arcface",
    "proxy_anchor",
    "soft_triple",
  }


def test_one_class_has_no_bound():
  assert not registry.CosFace(scale=1.0).advice(num_classes=1, dim=512)
