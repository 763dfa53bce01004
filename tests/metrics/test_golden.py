"""Evaluation protocols against numbers of an independent program."""

import json

import numpy as np
import pytest
from helpers import paths

from facejax.metrics import (
  clustering,
  counts,
  curves,
  diagnostics,
  distances,
  distractors,
  gallery,
  identification,
  templates,
  validation,
  verification,
)

_FILE = paths.GOLDEN / "golden_eval.json"
GOLDEN = json.loads(_FILE.read_text())
PAIRS, SEARCH = GOLDEN["verification"], GOLDEN["identification"]
SCORES = 1 - np.array(PAIRS["sq_l2"]) / 2
SAME = np.array(PAIRS["same"], bool)
FOLD = np.repeat(np.arange(PAIRS["folds"]), 40 // PAIRS["folds"])
IDS = SEARCH["probe_gallery_index"]
# Our name, the file's name, and whether its thresholds are distances.
CONVENTIONS = [
  ("facenet", "grid_0.01_first_argmax (facenet/insightface)", True),
  ("sphereface", "sphereface_20001_mean_of_best (on cos=1-d/2)", False),
  ("exact", "midpoint_middle_of_best", True),
]
near = pytest.approx


def test_the_file_holds_what_is_tested_here():
  assert set(GOLDEN) == {
    *("verification", "identification", "megaface_rank1", "clustering"),
    *("angular_fisher_score", "ijb_template", "flip_fusion"),
  }
  assert set(PAIRS) == {
    *("sq_l2", "same", "folds", "auc", "eer", "tar_at_far_conservative"),
    *(key for _, key, _ in CONVENTIONS),
    *("oracle_best_threshold_on_test (opensphere ACC)",),
    "val_far_fixed_threshold_le",
  }


@pytest.mark.parametrize("convention, key, distance", CONVENTIONS)
def test_ten_fold_conventions(convention, key, distance):
  result = verification.ten_fold_accuracy(
    SCORES, SAME, FOLD, convention=convention
  )
  expected, thresholds = PAIRS[key], result.thresholds
  thresholds = 2 - 2 * thresholds if distance else thresholds
  np.testing.assert_allclose(result.accuracies, expected["fold_acc"])
  np.testing.assert_allclose(thresholds, expected["thresholds"], atol=1e-12)
  assert result.mean == near(expected["mean"])
  assert result.std == near(expected["std_ddof0"], abs=1e-15)
  assert result.standard_error == near(expected["sem_ddof1"], abs=1e-15)


def test_oracle_convention():
  result = verification.ten_fold_accuracy(
    SCORES, SAME, FOLD, convention="oracle", allow_oracle=True
  )
  key = "oracle_best_threshold_on_test (opensphere ACC)"
  assert result.mean == PAIRS[key]


def test_rates_of_pairs():
  accepted = counts.count(SCORES, SAME)
  for target, expected in PAIRS["tar_at_far_conservative"].items():
    point = curves.at_far(accepted, float(target))
    assert point.tar.value == expected["tar"]
    assert point.far.value == expected["far"]
    assert 2 - 2 * point.threshold == near(expected["threshold_sup"])
  for distance, expected in PAIRS["val_far_fixed_threshold_le"].items():
    result = validation.accepts_at(SCORES, SAME, float(distance))
    assert result.validation_rate == near(expected["val"], abs=1e-15)
    assert result.false_accept_rate == near(expected["far"], abs=1e-15)
  assert curves.area(accepted) == near(PAIRS["auc"])
  assert curves.equal_error_rate(accepted) == near(PAIRS["eer"])


def test_closed_set_ranks():
  found = gallery.search_scores(SEARCH["similarity"], IDS, range(6))
  assert found.ranks[found.mated].tolist() == SEARCH["ranks"]
  match = identification.cumulative_match(found, 6)
  for rank, expected in SEARCH["cmc"].items():
    assert match[int(rank) - 1] == near(expected)
    assert identification.rank_k(found, int(rank)).value == near(expected)


def test_open_set_of_nist():
  found = gallery.search_scores(SEARCH["similarity"], IDS, range(6))
  key = "tpir_at_fpir_open_set (NIST: FPIR over non-mated probes)"
  for fpir, expected in SEARCH[key].items():
    result = identification.tpir_at_fpir(found, float(fpir))
    assert result.tpir.value == near(expected["tpir_rank1"])
    assert 1 - result.tpir.value == near(expected["fnir"])
    exclusive = expected["threshold_exclusive"]
    assert result.threshold == (
      -np.inf if exclusive is None else np.nextafter(exclusive, 1)
    )


def test_closed_set_of_insightface():
  mated = np.array(SEARCH["similarity"])[:6]
  for fpir, expected in SEARCH["tpir_at_fpir_closed_insightface"].items():
    result = identification.closed_set_tpir(
      mated, IDS[:6], range(6), float(fpir)
    )
    assert result.tpir.value == near(expected["tpir"])
    assert result.threshold == np.nextafter(expected["threshold"], 1)
    assert result.fpir.successes == expected["k"] - 1


def test_megaface():
  golden = GOLDEN["megaface_rank1"]
  probes, ids = golden["probe_feats"], golden["probe_ids"]
  strangers = distractors.compare(probes, golden["distractors"], keep=1)
  probe, score = distractors.trials(probes, ids)
  won = score > strangers.best[probe]
  assert probe.tolist() == [trial[0] for trial in golden["trials"]]
  assert won.tolist() == [trial[2] for trial in golden["trials"]]
  result = distractors.megaface(probes, ids, strangers)
  assert result.rank_one.value == golden["rank1"]
  assert result.rank_one.trials == golden["n_trials"]


def test_clustering():
  golden = GOLDEN["clustering"]
  table = clustering.contingency(golden["true"], golden["pred"])
  for function, key in (
    (clustering.pairwise, "pairwise"),
    (clustering.bcubed, "bcubed"),
  ):
    assert function(table)._asdict() == near(golden[key])
  information = clustering.mutual_information(table)
  assert information == near(golden["mutual_info_nats"])
  entropies = golden["entropy_true"], golden["entropy_pred"]
  assert clustering.entropies(table) == near(entropies)
  for mean, expected in golden["nmi"].items():
    value = clustering.normalized_mutual_information(table, mean=mean)
    assert value == near(expected, rel=1e-10)
  assert clustering.adjusted_rand_index(table) == near(golden["ari"])
  assert clustering.purity(table) == near(golden["purity"])


def test_angular_fisher_score():
  golden = GOLDEN["angular_fisher_score"]
  result = diagnostics.angular_fisher_score(golden["x"], golden["y"])
  assert result == near((golden["S_w"], golden["S_b"], golden["AFS"]))


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("detector", [False, True])
def test_ijb_template(norms, detector):
  golden = GOLDEN["ijb_template"]
  pooled = templates.pool(
    golden["feats"],
    [3] * 5,
    golden["media"],
    keep_norms=norms,
    detector_scores=golden["detector_score"] if detector else None,
  )
  np.testing.assert_allclose(
    pooled.features[0], golden[f"N{norms:d}D{detector:d}"]
  )


def test_flip_fusion():
  golden = GOLDEN["flip_fusion"]
  a, b = golden["a"], golden["b"]

  def cosine(rule):
    first = templates.fuse_flip([a], [golden["a_flip"]], rule=rule)
    second = templates.fuse_flip([b], [golden["b_flip"]], rule=rule)
    return float(distances.cosine_similarity(first[0], second[0]))

  for rule, key in (
    ("sum", "sum_then_l2"),
    ("sum_of_units", "l2_then_sum"),
    ("concat", "concat_raw"),
    ("concat_of_units", "concat_of_l2"),
  ):
    assert cosine(rule) == near(golden[key])
  assert distances.cosine_similarity(a, b) == near(golden["no_flip"])
