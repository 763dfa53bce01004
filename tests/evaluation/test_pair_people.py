"""Whom pairs show: by labels, by names, or nobody can tell."""

import numpy as np
import pytest

from facejax.data.pairs import pairs as pair_sets
from facejax.data.pairs import templates
from facejax.evaluation import pair_people


class Named:
  """Images of which only names and labels are asked."""

  def __init__(self, names, labels=None):
    self._names = names
    self.labels = np.zeros(len(names), int) if labels is None else labels

  def name(self, index):
    return self._names[index]


def pairs_of(source, same, first=(0, 0, 1, 2), second=(1, 2, 3, 3)):
  return pair_sets.PairSet(
    "made",
    source,
    np.asarray(first),
    np.asarray(second),
    np.asarray(same, bool),
    np.zeros(len(same), int),
  )


@pytest.mark.parametrize(
  "names",
  [
    ["ada/ada_1.jpg", "ada/ada_2.jpg", "bob/bob_1.jpg", "bob/bob_2.jpg"],
    ["./ada_1.jpg", "./ada_2.jpg", "./bob_1.jpg", "./bob_2.jpg"],
    ["7_Ada_35_f.jpg", "9_Ada_36_f.jpg", "8_Bob_35_m.jpg", "1_Bob_70_m.jpg"],
    ["1/frontal/01.jpg", "1/profile/01.jpg", "2/frontal/01.jpg", "2/a/b.jpg"],
  ],
)
def test_files_are_called_by_people(names):
  who = pair_people.known(pairs_of(Named(names), [1, 0, 0, 1]))
  assert who is not None and who.people == 2
  assert who.first.tolist() == [0, 0, 0, 1]
  assert who.second.tolist() == [0, 1, 1, 1]


def test_labels_say_it_where_names_do_not():
  names = [f"record {k}" for k in range(4)]
  labels = np.array([5, 5, 9, 9])
  who = pair_people.known(pairs_of(Named(names, labels), [1, 0, 0, 1]))
  assert who is not None and who.second.tolist() == [0, 1, 1, 1]


def test_packs_do_not_say_it():
  for names in ([f"pack/{k}" for k in range(4)], [f"pack_{k}" for k in "abcd"]):
    assert pair_people.known(pairs_of(Named(names), [1, 0, 0, 1])) is None
  # Every image another person contradicts the genuine pairs.
  names = [f"{k}/1.jpg" for k in range(4)]
  assert pair_people.known(pairs_of(Named(names), [1, 0, 0, 1])) is None


def test_lists_of_galleries_and_probes_tell_of_templates():
  def asked(first, second, same):
    return templates.TemplatePairs(
      np.asarray(first), np.asarray(second), np.asarray(same, bool)
    )

  enrolled = [
    templates.Enrolled(np.array([4, 4, 9]), np.array([70, 70, 80])),
    templates.Enrolled(np.array([6, 2]), np.array([70, 80])),
  ]
  pairs = asked([4, 9, 4], [6, 2, 2], [1, 1, 0])
  who = pair_people.of_templates(enrolled, pairs)
  assert who is not None
  assert who.first.tolist() == [0, 1, 0] and who.second.tolist() == [0, 1, 1]
  # One template is nowhere, lists contradict the pairs, there are none.
  for lists, other in (
    (enrolled, asked([4], [5], [1])),
    (enrolled, asked([4, 9], [6, 2], [1, 0])),
    ([], pairs),
  ):
    assert pair_people.of_templates(lists, other) is None
