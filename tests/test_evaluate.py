"""facejax.evaluate: every figure is what the embeddings say."""

import collections
import copy
import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from helpers import tiny_run as tiny
from PIL import Image

from facejax import evaluate
from facejax.data import align, images, make_pairs
from facejax.data.aligning import enrolment
from facejax.data.synthetic import faces as synthetic
from facejax.evaluation import (
  clusters,
  identification,
  kept,
  overlap,
  pair_protocol,
  protocols,
)
from facejax.metrics import clustering as cluster_metrics
from facejax.metrics import gallery, templates
from facejax.metrics import identification as ranks
from facejax.metrics import verification as metrics
from facejax.runs import metrics_file, results
from facejax.vectors import clustering

PEOPLE = range(4)


def files_of(faces):
  return sorted(faces.rglob("*.png"))


def write_list(path, faces):
  """Each genuine pair and then one of two people, as AgeDB lists them."""
  names = [str(file.relative_to(faces)) for file in files_of(faces)]
  lines = []
  for person in PEOPLE:
    mine = names[3 * person : 3 * person + 3]
    for k in range(3):
      lines.append(f"{mine[k]} {mine[(k + 1) % 3]} 1")
      other = names[(3 * person + 3 + 4 * k) % 12]
      lines.append(f"{mine[k]} {other} {int(other in mine)}")
  path.write_text("\n".join(lines) + "\n")
  return [line.split() for line in lines]


@pytest.fixture
def run(tiny_run, tmp_path):
  """A folder of the tiny run of a test's own."""
  return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def model(tiny_model, run):
  mine = copy.copy(tiny_model)
  mine.run = str(run)
  return mine


@pytest.fixture
def vectors(tiny_model, tiny_faces):
  """The embeddings of all faces by their paths."""
  files = files_of(tiny_faces)
  found = tiny_model.embed(files, batch_size=4, flip=True)
  return {
    str(f.relative_to(tiny_faces)): e for f, e in zip(files, found, strict=True)
  }


def options(name, path, **more):
  return protocols.ProtocolOptions(
    name, str(path), batch_size=4, samples=20, hardest=3, **more
  )


def test_pairs_score_as_embeddings_do(model, tiny_faces, tmp_path, vectors):
  pairs = write_list(tmp_path / "list.txt", tiny_faces)
  result = pair_protocol.pairs(
    model,
    options("mine", tiny_faces),
    file=str(tmp_path / "list.txt"),
    threshold=0.5,
  )
  scores = np.asarray([vectors[a] @ vectors[b] for a, b, _ in pairs])
  same = np.asarray([label == "1" for *_, label in pairs])
  fold = np.repeat(np.arange(10), [3] * 4 + [2] * 6)
  for name in ("facenet", "exact"):
    expected = metrics.ten_fold_accuracy(scores, same, fold, convention=name)
    assert result[f"accuracy_{name}"] == pytest.approx(expected.mean)
  assert result["accuracy_at_given_threshold"] == np.mean(
    (scores >= 0.5) == same
  )
  eer = metrics.equal_error_rate(scores, same)
  assert result["equal_error_rate"] == pytest.approx(eer)
  far = metrics.tar_at_far(scores, same, 0.1)
  assert result["tar_at_far_1e-1"] == far
  assert result.step == tiny.STEP and result.name == "mine"
  assert "24 pairs" in result.about and "12 images" in result.about
  worst = [pair.score for pair in result.exhibits[0].comparisons]
  np.testing.assert_allclose(worst, np.sort(scores[~same])[::-1][:3], atol=1e-5)
  for quantity in result.quantities:
    assert quantity.convention, quantity.key
    # Twelve impostor pairs resolve no rate of NIST's.
    if quantity.key.startswith("fnmr_at_fmr"):
      assert quantity.text() == "-" and quantity.interval() == ""
      assert "12 impostor pairs are too few" in quantity.convention
    elif quantity.key == "edc_area_norm":
      # Draws of four people hardly ever reach the end of its range.
      assert quantity.low is None and "interval: none" in quantity.convention
    elif quantity.key != "threshold":
      assert quantity.low <= quantity.value <= quantity.high, quantity.key
  # All of it travels through the file.
  results.write(model.run, result)
  (read,) = results.read_all(model.run)
  assert read.quantities == list(result.quantities)


def test_a_threshold_is_kept_with_the_net(model, tiny_faces, tmp_path, vectors):
  pairs = write_list(tmp_path / "list.txt", tiny_faces)
  other = tmp_path / "other.txt"
  other.write_text("".join((tmp_path / "list.txt").read_text()))
  list_file = str(tmp_path / "list.txt")
  _, elsewhere = pair_protocol.scored(
    model, options("mine", tiny_faces), file=str(other)
  )
  assert elsewhere.name == "other"
  result = pair_protocol.pairs(
    model,
    options("mine", tiny_faces, keep=kept.Keep()),
    file=list_file,
    elsewhere=elsewhere,
  )
  scores = np.asarray([vectors[a] @ vectors[b] for a, b, _ in pairs])
  same = np.asarray([label == "1" for *_, label in pairs])
  cosine = metrics.best_threshold(scores, same)
  assert result["accuracy_at_given_threshold"] == np.mean(
    (scores >= cosine) == same
  )
  assert math.isnan(result["transferred_fmr_at_1e-2"])
  found = metrics_file.threshold(model.run)
  assert found.cosine == pytest.approx(cosine, abs=1e-6)
  assert found.false_matches == np.mean(scores[~same] >= cosine)
  assert found.low <= found.false_matches <= found.high
  assert found.strangers == 12 and found.rates == ()
  assert found.step == tiny.STEP and found.data["pairs"] == list_file
  assert "fingerprint of the pairs" in found.data
  # Twelve strangers tell nothing of one in a hundred; it is said at once.
  with pytest.raises(ValueError, match="12 impostor pairs are too few"):
    pair_protocol.pairs(
      model,
      options("mine", tiny_faces, keep=kept.Keep(0.01)),
      file=list_file,
    )


def test_photos_without_a_face_are_a_rate(model, tiny_faces, tmp_path):
  faces = shutil.copytree(tiny_faces, tmp_path / "faces")
  write_list(tmp_path / "list.txt", faces)
  fates = {"aligned": 12, "photo without a face": 3}
  enrolment.finish(faces, collections.Counter(fates))
  result = pair_protocol.pairs(
    model, options("mine", faces), file=str(tmp_path / "list.txt")
  )
  assert result["failure_to_enrol"] == 3 / 15
  whole = pair_protocol.pairs(
    model, options("mine", tiny_faces), file=str(tmp_path / "list.txt")
  )
  keys = [quantity.key for quantity in whole.quantities]
  assert "failure_to_enrol" not in keys


def test_a_gallery_of_another_net(model, tiny_faces, tmp_path, vectors):
  pairs = write_list(tmp_path / "list.txt", tiny_faces)

  class Negated:
    """Another net, whose embeddings point the other way."""

    card, run, step = model.card, "runs/old", 3
    batch_size = model.batch_size

    def features_batch(self, images):
      return -model.features_batch(images)

  result = pair_protocol.pairs(
    model,
    options("mine", tiny_faces),
    file=str(tmp_path / "list.txt"),
    threshold=-0.5,
    gallery=Negated(),
  )
  scores = np.asarray([-vectors[a] @ vectors[b] for a, b, _ in pairs])
  same = np.asarray([label == "1" for *_, label in pairs])
  assert result["equal_error_rate"] == pytest.approx(
    metrics.equal_error_rate(scores, same)
  )
  assert result["accuracy_at_given_threshold"] == np.mean(
    (scores >= -0.5) == same
  )
  assert "by runs/old, step 3" in " ".join(result.notes)


def test_a_gallery_of_another_size_is_refused_before_anything_is_embedded(
  model, tiny_faces, tmp_path, monkeypatch, capsys
):
  write_list(tmp_path / "list.txt", tiny_faces)
  other = copy.copy(model)
  other.card = dataclasses.replace(model.card, embedding_dim=7)
  nets = {"old": other}
  monkeypatch.setattr(
    evaluate.embedder, "load", lambda run, **_: nets.get(run, model)
  )

  def never(*_, **__):
    raise AssertionError("embedded")

  for net in (model, other):
    monkeypatch.setattr(net, "features_batch", never)
  arguments = ["--pairs", str(tmp_path / "list.txt"), "--path", str(tiny_faces)]
  assert evaluate.main([model.run, *arguments, "--gallery-net", "old"]) == 2
  assert f"of 7, the other net of {model.card.embedding_dim}" in (
    capsys.readouterr().err
  )


def test_sphereface_takes_both_features_and_centres_them(
  model, tiny_faces, tmp_path
):
  pairs = write_list(tmp_path / "list.txt", tiny_faces)
  result = pair_protocol.pairs(
    model, options("mine", tiny_faces), file=str(tmp_path / "list.txt")
  )
  net = model.features_batch
  sides = []
  for column in (0, 1):
    pixels = np.stack(
      [model.image(tiny_faces / pair[column]) for pair in pairs]
    )
    mirror = np.ascontiguousarray(pixels[:, :, ::-1])
    sides.append(np.concatenate([net(pixels), net(mirror)], axis=1))
  same = np.asarray([label == "1" for *_, label in pairs])
  fold = np.repeat(np.arange(10), [3] * 4 + [2] * 6)
  expected = metrics.centred_accuracy(*sides, same, fold)
  assert result["accuracy_sphereface"] == pytest.approx(expected.mean)


def test_one_fold_alone(model, tiny_faces, tmp_path, vectors):
  pairs = write_list(tmp_path / "list.txt", tiny_faces)
  file = str(tmp_path / "list.txt")
  result = pair_protocol.pairs(
    model, options("mine", tiny_faces), file=file, fold=1
  )
  scores = np.asarray([vectors[a] @ vectors[b] for a, b, _ in pairs])
  same = np.asarray([label == "1" for *_, label in pairs])
  fold = np.repeat(np.arange(10), [3] * 4 + [2] * 6)
  expected = metrics.ten_fold_accuracy(scores, same, fold)
  assert result["accuracy_fold"] == pytest.approx(expected.accuracies[1])
  assert "3 pairs" in result.about and "fold 2 of 10" in result.about
  with pytest.raises(ValueError, match="fold 11 of 10"):
    pair_protocol.pairs(model, options("x", tiny_faces), file=file, fold=10)


def test_identification_is_a_search(model, tiny_faces, vectors):
  pytest.importorskip("sklearn", reason="needs the eval extra")
  result = protocols.identify(
    model, options("who", tiny_faces), cluster_at=0.9, method=None
  )
  x = np.stack(list(vectors.values()))
  labels = np.repeat(PEOPLE, 3)
  first = np.arange(12) % 3 == 0
  scores = x[~first] @ x[first].T
  own = scores[np.arange(8), labels[~first]]
  rank = (scores >= own[:, None]).sum(1)
  assert result["rank_1"] == (rank == 1).mean()
  assert result.curves["cmc"]["rate"][1] == (rank <= 2).mean()
  # Two halves of the people, each the strangers of the other.
  order = np.random.default_rng(0).permutation(4)
  found = [
    gallery.search(
      x[~first],
      labels[~first],
      x[first & np.isin(labels, half)],
      labels[first & np.isin(labels, half)],
    )
    for half in np.split(order, 2)
  ]
  expected = ranks.tpir_of_galleries(found, 0.01)[0]
  assert result["tpir_at_fpir_0.01"] == expected
  assert any("lets none of them pass" in text for text in result.warnings)
  table = cluster_metrics.contingency(
    labels, clustering.agglomerative(x, threshold=0.9)
  )
  assert result["pairwise_f"] == cluster_metrics.pairwise(table).f
  assert 0 <= result["bcubed_f_cross_fitted"] <= 1
  # The probes that are most like somebody else, and whether they are lost.
  others = np.where(np.arange(4) == labels[~first][:, None], -np.inf, scores)
  gap = others.max(1) - own
  chosen = np.argsort(-gap)[:3]
  shown = result.exhibits[0].comparisons
  assert [pair.wrong for pair in shown] == (gap[chosen] >= 0).tolist()
  np.testing.assert_allclose(
    [pair.score for pair in shown], others.max(1)[chosen], atol=1e-5
  )


def test_thresholds_are_those_of_other_people():
  pytest.importorskip("sklearn", reason="needs the eval extra")
  # Images of one person are ten degrees apart, people eighty or more.
  angles = np.deg2rad([0, 10, 90, 100, 180, 190, 270, 280])
  x = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
  labels = np.repeat([0, 1, 2, 3], 2)
  found = {
    q.key: q
    for q in clusters.clusters_cross_fitted(x, labels, "agglomerative", seed=0)
  }
  assert found["pairwise_f_cross_fitted"].value == 1
  assert found["clusters_cross_fitted"].value == 4
  cosines = found["pairwise_f_cross_fitted"].convention.split("(")[1]
  first = float(cosines.split(" ")[0])
  assert np.cos(np.deg2rad(90)) < first <= np.cos(np.deg2rad(10)) + 1e-3


def test_the_first_images_are_enrolled():
  labels = np.asarray([7, 3, 7, 7, 3])
  assert identification.split(labels, 2).tolist() == [
    True,
    True,
    True,
    False,
    True,
  ]


@pytest.fixture
def ijb(tmp_path):
  """Lists and loose crops of three people, in the form of IJB-C."""
  source = synthetic.SyntheticFaces(
    num_identities=3, images_per_identity=4, seed=5, image_size=(150, 150)
  )
  crops, lists = tmp_path / "loose", tmp_path / "meta"
  crops.mkdir()
  lists.mkdir()
  media, points = [], []
  landmarks = align.template((112, 112)) + 19
  for k in range(12):
    Image.fromarray(np.asarray(source[k])).save(crops / f"{k}.png")
    # Two templates a person; the second has one medium of two frames.
    template = k // 2
    media.append(f"{k}.png {template} {100 + (0 if template % 2 else k)}")
    text = " ".join(f"{value:.3f}" for value in landmarks.reshape(-1))
    points.append(f"{k}.png {text} {0.5 + k / 24:.4f}")
  pairs = [
    f"{a} {b} {int(a // 2 == b // 2)}" for a in range(6) for b in range(a)
  ]
  (lists / "x_face_tid_mid.txt").write_text("\n".join(media) + "\n")
  (lists / "x_name_5pts_score.txt").write_text("\n".join(points) + "\n")
  (lists / "x_template_pair_label.txt").write_text("\n".join(pairs) + "\n")
  for name, rows in (
    ("gallery_G1", [(0, 0), (2, 1)]),
    ("gallery_G2", [(4, 2)]),
    ("probe_mixed", [(1, 0), (1, 0), (3, 1), (5, 2)]),
  ):
    text = "".join(f"{template},{subject}\n" for template, subject in rows)
    path = lists / f"x_1N_{name}.csv"
    path.write_text(f"TEMPLATE_ID,SUBJECT_ID\n{text}")
  return crops, lists, landmarks


@pytest.mark.parametrize("keep_norms", [True, False])
@pytest.mark.parametrize("use_detector", [True, False])
def test_templates(model, ijb, keep_norms, use_detector):
  crops, lists, landmarks = ijb
  result = protocols.templates(
    model,
    options("ijb", crops),
    folder=str(lists),
    keep_norms=keep_norms,
    use_detector=use_detector,
  )
  net, features = model.features_batch, []
  for k in range(0, 12, 4):
    pixels = [
      np.asarray(Image.open(crops / f"{i}.png")) for i in range(k, k + 4)
    ]
    faces = np.stack(
      [
        images.fit(
          align.align(image, landmarks), image_size=tiny.SIZE, crop=0.9
        )
        for image in pixels
      ]
    )
    mirror = np.ascontiguousarray(faces[:, :, ::-1])
    features.append(net(faces) + net(mirror))
  x = np.concatenate(features).astype(np.float64)
  if not keep_norms:
    x /= np.linalg.norm(x, axis=1, keepdims=True)
  if use_detector:
    x *= (0.5 + np.arange(12) / 24).round(4)[:, None]
  pooled = []
  for template in range(6):
    a, b = x[2 * template], x[2 * template + 1]
    whole = (a + b) / 2 if template % 2 else a + b
    pooled.append(whole / np.linalg.norm(whole))
  scores = np.asarray(pooled) @ np.asarray(pooled).T
  low = np.tril_indices(6, -1)
  same = low[0] // 2 == low[1] // 2
  expected = metrics.tar_at_far(scores[low], same, 0.1)
  assert result["tar_at_far_1e-1"] == pytest.approx(expected)
  # Of three probes two have a mate in G1, one in G2.
  rank = [
    np.argmax(scores[1, [0, 2]]) == 0, np.argmax(scores[3, [0, 2]]) == 1, True,
  ]  # fmt: skip
  assert result["rank_1"] == pytest.approx(np.mean(rank))
  # The lists of galleries and probes tell whom each pair shows.
  assert "share people" in result.quantities[0].convention
  switches = result.quantities[0].convention
  assert ("N on" in switches) == keep_norms
  assert ("D on" in switches) == use_detector


def test_lists_that_do_not_fit_are_refused(model, ijb):
  crops, lists, _ = ijb
  path = lists / "x_face_tid_mid.txt"
  path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
  with pytest.raises(ValueError, match="other images"):
    protocols.templates(model, options("x", crops), folder=str(lists))
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r"face_tid_mid\.txt"):
    protocols.templates(model, options("x", crops), folder=str(lists))
  assert templates.FAR_TARGETS[0] == 1e-6


def config(faces, **more):
  return {
    "data.source": "folder",
    "data.path": str(faces),
    "data.min_images": 1,
    **more,
  }


def test_who_was_trained_on_is_known(tiny_faces, tmp_path):
  everybody = overlap.trained_people(config(tiny_faces))
  assert everybody.names == {f"person{k}" for k in PEOPLE}
  (tmp_path / "some.txt").write_text("person0\nperson2\n")
  some = overlap.trained_people(
    config(tiny_faces, **{"data.identities": str(tmp_path / "some.txt")})
  )
  assert some.names == {"person0", "person2"}
  rest = overlap.trained_people(
    config(tiny_faces, **{"data.exclude": str(tmp_path / "some.txt")})
  )
  assert rest.names == {"person1", "person3"}
  text, warn = overlap.of_people(some, ["person0", "person1", "person1"])
  assert warn and text.startswith("1 of the 2 tested people (50.0 %)")
  text, warn = overlap.of_people(rest, ["person0"])
  assert not warn and text.startswith("0 of the 1")
  for broken in (None, {}, config(tmp_path / "gone")):
    unknown = overlap.trained_people(broken)
    assert unknown.names is None
    assert overlap.of_people(unknown, ["a"])[1]


def test_accuracy_without_those_trained_on():
  trained = overlap.Trained(frozenset("ab"), "")
  sides = list("aacd"), list("bccd")
  scores = np.asarray([0.9, 0.1, 0.2, 0.9])
  same = np.asarray([False, False, True, True])
  without, those = overlap.of_pairs(trained, sides, scores, same, 0.5)
  assert (without.key, without.value) == ("accuracy_of_unseen", 0.5)
  assert (those.key, those.value) == ("accuracy_of_seen", 0.5)
  assert "nobody was trained on, 2 genuine" in without.convention
  assert (
    "1 of 2." in without.convention and "share people" in without.convention
  )
  strangers = overlap.Trained(frozenset("z"), "")
  assert not overlap.of_pairs(strangers, sides, scores, same, 0.5)


def test_the_command_writes_and_shows(run, tiny_faces, tmp_path, capsys):
  write_list(tmp_path / "list.txt", tiny_faces)
  shown = config(tiny_faces, name="cosface-tiny")
  (run / "config.json").write_text(json.dumps(shown))
  arguments = ["--workdir", run, "--pairs", tmp_path / "list.txt", "--path"]
  arguments += [tiny_faces, "--threshold-pairs", tmp_path / "list.txt"]
  arguments += ["--devices", 2, "--batch-size", 4, "--samples", 20]
  assert evaluate.main([str(argument) for argument in arguments]) == 0
  out = capsys.readouterr().out
  for words in (
    "Accuracy, facenet", "95 % interval", "Accuracy at a given threshold",
    "squared L2", "4 of the 4 tested people", "list.json",
  ):  # fmt: skip
    assert words in " ".join(out.split()), words
  (result,) = results.read_all(run)
  assert result.name == "list" and result.warnings
  page = (run / "report" / "index.html").read_text()
  assert "cosface-tiny" in page and "4 of the 4 tested people" in page
  # What training found is still there.
  assert (run / "report" / "metrics.json").exists()
  projected = run / "tensorboard" / "embeddings" / "list"
  assert (projected / "projector_config.pbtxt").exists()
  (table,) = projected.rglob("tensors.tsv")
  stored = np.loadtxt(table, delimiter="\t")
  assert stored.shape == (12, tiny.DIM)
  np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-3)
  (names,) = projected.rglob("metadata.tsv")
  assert len(names.read_text().splitlines()) == 13
  (sprite,) = projected.rglob("sprite.png")
  with Image.open(sprite) as picture:
    assert picture.size[0] == 4 * 48


def test_each_pack_of_a_folder(run, tiny_faces, tmp_path, capsys):
  write_list(tmp_path / "list.txt", tiny_faces)
  packs = tmp_path / "packs"
  packs.mkdir()
  for name in ("one.npz", "two.bin"):
    arguments = [tiny_faces, tmp_path / "list.txt", packs / name]
    assert make_pairs.main([str(argument) for argument in arguments]) == 0
  arguments = [str(run), "--pairs", str(packs), "--devices", "2"]
  arguments += ["--batch-size", "4", "--samples", "20"]
  assert evaluate.main(arguments) == 0
  out = " ".join(capsys.readouterr().out.split())
  assert "one: 24 pairs" in out and "two: 24 pairs" in out
  found = results.read_all(run)
  assert [result.name for result in found] == ["one", "two"]
  assert found[0]["equal_error_rate"] == found[1]["equal_error_rate"]
  assert evaluate.main([*arguments, "--name", "mine", "--fold", "1"]) == 0
  names = [result.name for result in results.read_all(run)]
  assert names == ["mine_one_fold1", "mine_two_fold1", "one", "two"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "give --pairs"),
    (["--protocol", "identification"], "needs --path"),
    (["--protocol", "ijbc", "--path", "x"], "needs --pairs"),
    (["--protocol", "clustering", "--path", "x", "--fold", "1"], "no folds"),
    (
      ["--protocol", "clustering", "--path", "x", "--gallery-net", "y"],
      "has no",
    ),
    (["--pairs", "nowhere.txt", "--path", "."], "nowhere.txt"),
    (["--protocol", "identification", "--path", "nowhere"], "nowhere"),
    (["--protocol", "ijbb", "--pairs", "nowhere", "--path", "."], "nowhere"),
  ],
)
def test_mistakes_end_in_one_message(run, capsys, arguments, message):
  devices = ["--devices", "2"]
  assert evaluate.main(["--workdir", str(run), *devices, *arguments]) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error
  assert len(error.splitlines()) == 1


def test_lfw_is_found_where_data_lies(run, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("FACEJAX_DATA", str(tmp_path / "data"))
  arguments = ["--workdir", str(run), "--protocol", "lfw", "--devices", "2"]
  assert evaluate.main(arguments) == 2
  error = capsys.readouterr().err
  assert "lfw_112" in error or "pairs.txt" in error


def test_the_help_teaches(capsys):
  with pytest.raises(SystemExit):
    evaluate.main(["--help"])
  text = capsys.readouterr().out
  for words in ("Examples:", "--fold 3", "identification", "LFW"):
    assert words in text
