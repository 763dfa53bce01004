"""YouTube Faces, in the official layout, against loops over frames."""

import itertools
import json
import pathlib

import numpy as np
import pytest
from helpers import processes
from PIL import Image

from facejax import evaluate
from facejax.data.synthetic import faces as synthetic
from facejax.evaluation import features, protocols, videos
from facejax.metrics import verification as metrics
from facejax.runs import results

PEOPLE, FILMS = ("Ada_One", "Bob_Two", "Cy_Three", "Dee_Four"), 2
# Frames of a film; the numbers have one, two and three digits.
FIRST = 8


@pytest.fixture(scope="module")
def ytf(tmp_path_factory):
  """Frames and splits.txt, as YouTube Faces hands them out."""
  root = tmp_path_factory.mktemp("ytf")
  source = synthetic.SyntheticFaces(
    num_identities=len(PEOPLE),
    images_per_identity=10,
    seed=5,
    image_size=(40, 40),
  )
  frames = root / "aligned_images_DB"
  names, films = {}, []
  for person, name in enumerate(PEOPLE):
    at = 10 * person
    for film, count in ((0, 6), (1, 4)):
      place = frames / name / str(film)
      place.mkdir(parents=True)
      (place / "notes.txt").write_text("no frame")
      key = f"{name}/{film}"
      films.append(key)
      for k in range(count):
        path = place / f"aligned_detect_{film}.{FIRST + k}.jpg"
        Image.fromarray(np.asarray(source[at])).save(path, quality=95)
        names.setdefault(key, []).append(path)
        at += 1
  lines, pairs = (
    ["split number, first name, second name, is same, original"],
    [],
  )
  others = itertools.cycle(itertools.combinations(range(len(PEOPLE)), 2))
  for split in range(10):
    for k in range(2):
      name = PEOPLE[(split + k) % len(PEOPLE)]
      pairs.append((split, f"{name}/0", f"{name}/1", True))
      a, b = next(others)
      film = f"{PEOPLE[b]}/{(split + k) % 2}"
      pairs.append((split, f"{PEOPLE[a]}/{k}", film, False))
  lines += [f"{s + 1}, {a}, {b}, {int(same)}, 1" for s, a, b, same in pairs]
  (root / "splits.txt").write_text("\n".join(lines) + "\n")
  return root / "splits.txt", frames, names, pairs


def options(path):
  return protocols.ProtocolOptions(
    "ytf", str(path), batch_size=4, samples=20, hardest=2
  )


def slow_scores(model, names, pairs, frames):
  """Mean features' cosines and means over pairs of frames, by loops."""
  net, found = model.features_batch, {}
  for film, paths in names.items():
    pixels = [model.image(path) for path in paths[:frames]]
    pixels = np.stack(pixels + pixels[-1:] * (len(pixels) % 2))
    mirror = np.ascontiguousarray(pixels[:, :, ::-1])
    both = np.asarray(net(pixels), np.float64) + net(mirror)
    found[film] = both[: len(paths[:frames])]
  cosines, means = [], []
  for _, a, b, _ in pairs:
    u, v = found[a].mean(0), found[b].mean(0)
    cosines.append(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
    each = [
      x @ y / np.linalg.norm(x) / np.linalg.norm(y)
      for x in found[a]
      for y in found[b]
    ]
    means.append(np.mean(each))
  return np.asarray(cosines), np.asarray(means)


@pytest.mark.parametrize("frames", [None, 3])
def test_both_rules_match_loops_over_frames(model, ytf, frames):
  file, path, names, pairs = ytf
  result = videos.verified(
    model, options(path), file=str(file), frames=frames, threshold=0.5
  )
  same = np.asarray([pair[3] for pair in pairs])
  fold = np.asarray([pair[0] for pair in pairs])
  scores = slow_scores(model, names, pairs, frames)
  for found, ending in zip(scores, ("", "_frame_pairs"), strict=True):
    for convention in ("facenet", "exact"):
      expected = metrics.ten_fold_accuracy(
        found, same, fold, convention=convention
      )
      key = f"accuracy_{convention}{ending}"
      assert result[key] == pytest.approx(expected.mean), key
    expected = metrics.equal_error_rate(found, same)
    assert result[f"equal_error_rate{ending}"] == pytest.approx(expected)
    expected = metrics.area_under_curve(found, same)
    assert result[f"area_under_curve{ending}"] == pytest.approx(expected)
    right = np.mean((found >= 0.5) == same)
    assert result[f"accuracy_at_given_threshold{ending}"] == right
    expected = metrics.tar_at_far(found, same, 0.1)
    assert result[f"tar_at_far_1e-1{ending}"] == expected
  shown = [pair.score for pair in result.exhibits[0].comparisons]
  worst = np.sort(scores[0][~same])[::-1][:2]
  np.testing.assert_allclose(shown, worst, atol=1e-5)
  count = sum(len(paths[:frames]) for paths in names.values())
  assert "40 pairs (20 genuine) of 8 videos" in result.about
  assert f"{count} frames" in result.about
  for quantity in result.quantities:
    pairs_rule = quantity.key.endswith("_frame_pairs")
    rule = "all pairs of frames" if pairs_rule else "mean feature"
    assert rule in quantity.convention, quantity.key


def test_sphereface_joins_and_centres_mean_features(model, ytf):
  file, path, names, pairs = ytf
  result = videos.verified(model, options(path), file=str(file), rule="both")
  net, joined = model.features_batch, {}
  for film, paths in names.items():
    pixels = np.stack([model.image(path) for path in paths])
    mirror = np.ascontiguousarray(pixels[:, :, ::-1])
    both = np.concatenate([net(pixels), net(mirror)], axis=1)
    joined[film] = both.mean(axis=0, dtype=np.float64)
  sides = [np.stack([joined[pair[k]] for pair in pairs]) for k in (1, 2)]
  same = np.asarray([pair[3] for pair in pairs])
  fold = np.asarray([pair[0] for pair in pairs])
  expected = metrics.centred_accuracy(*sides, same, fold)
  assert result["accuracy_sphereface"] == pytest.approx(expected.mean)


def test_one_rule_and_one_fold(model, ytf):
  file, path, names, pairs = ytf
  result = videos.verified(
    model, options(path), file=str(file), rule="frame_pairs", fold=2
  )
  _, scores = slow_scores(model, names, pairs, None)
  same = np.asarray([pair[3] for pair in pairs])
  fold = np.asarray([pair[0] for pair in pairs])
  expected = metrics.ten_fold_accuracy(scores, same, fold).accuracies[2]
  assert result["accuracy_fold"] == pytest.approx(expected)
  assert "fold 3 of 10" in result.about
  with pytest.raises(ValueError, match="no fold 11"):
    videos.verified(model, options(path), file=str(file), fold=10)


def test_frames_never_lie_in_memory_at_once(model, ytf, monkeypatch):
  file, path, *_ = ytf
  sizes, made = [], features.Features

  def watched(plain, mirrored):
    sizes.append(len(plain))
    return made(plain, mirrored)

  monkeypatch.setattr(features, "Features", watched)
  videos.verified(model, options(path), file=str(file))
  # Ten batches of four frames, then mean features of eight videos.
  assert sizes == [4] * 10 + [8]


def test_the_command(model, ytf, capsys):
  file, path, *_ = ytf
  config = {"data.source": "folder", "data.path": str(path), "name": "tiny"}
  config["data.min_images"] = 1
  with open(f"{model.run}/config.json", "w") as out:
    json.dump(config, out)
  arguments = ["--protocol", "ytf", "--pairs", file, "--path", path]
  arguments += ["--frames", 2, "--samples", 20, "--batch-size", 4]
  arguments += ["--devices", 2]
  assert evaluate.main([model.run, *map(str, arguments)]) == 0
  out = " ".join(capsys.readouterr().out.split())
  assert "Accuracy, facenet" in out and "frame pairs" in out
  (result,) = results.read_all(model.run)
  assert result.name == "ytf_first2" and "the first 2 of each" in result.about
  page = pathlib.Path(model.run, "report", "index.html").read_text()
  assert "Ada_One/" in page


def test_two_processes_find_what_one_does(model, ytf):
  file, path, *_ = ytf
  result = videos.verified(model, options(path), file=str(file))
  arguments = [model.run, "--protocol", "ytf", "--pairs", file, "--path", path]
  arguments += ["--batch-size", 4, "--samples", 20]
  codes, outputs = processes.run(arguments, command=("-m", "facejax.evaluate"))
  assert codes == [0, 0], outputs
  (found,) = results.read_all(model.run)
  for one, other in zip(result.quantities, found.quantities, strict=True):
    assert one.value == pytest.approx(other.value, abs=1e-5, nan_ok=True)
