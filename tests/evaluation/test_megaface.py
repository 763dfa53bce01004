"""MegaFace, in the official layout, against loops over trials."""

import json
import pathlib

import numpy as np
import pytest
from helpers import processes
from PIL import Image

from facejax import evaluate
from facejax.data.synthetic import faces as synthetic
from facejax.evaluation import megaface, protocols
from facejax.metrics import distractors as metrics
from facejax.runs import results
from facejax.vectors import embeddings

PROBES, STRANGERS = 4, 24


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  """Probes and distractors as FaceScrub and MegaFace are handed out."""
  root = tmp_path_factory.mktemp("megaface")
  source = synthetic.SyntheticFaces(
    num_identities=PROBES + STRANGERS,
    images_per_identity=3,
    seed=9,
    image_size=(36, 36),
  )
  probes, strangers = [], []
  for k in range(3 * PROBES):
    path = root / "facescrub" / f"Person_{k // 3}" / f"Person_{k // 3}_{k}.png"
    probes.append(path)
  for k in range(STRANGERS):
    album = root / "flickr" / f"{k % 3}00" / f"{k % 4}@N05"
    strangers.append(album / f"{k}_0.jpg")
  for k, path in enumerate([*probes, *strangers]):
    path.parent.mkdir(parents=True, exist_ok=True)
    index = k if k < 3 * PROBES else 3 * (k - 2 * PROBES)
    Image.fromarray(np.asarray(source[index])).save(path)
  return root, probes, sorted(strangers)


def options(path, name="megaface"):
  return protocols.ProtocolOptions(name, str(path), batch_size=4)


def slow(model, probes, strangers, seed=0):
  """Shares of trials that are won, by the number of distractors, and scores."""
  x = model.embed([str(p) for p in probes], batch_size=4, flip=True)
  y = model.embed([str(p) for p in strangers], batch_size=4, flip=True)
  people = [path.parent.name for path in probes]
  order = np.argsort(np.random.default_rng(seed).permutation(len(y)))
  cosines = x @ y.T
  pairs = [
    (i, j)
    for i in range(len(x))
    for j in range(len(x))
    if i != j and people[i] == people[j]
  ]
  mates = np.asarray([x[i] @ x[j] for i, j in pairs])
  rates = {
    size: np.mean(
      [x[i] @ x[j] > max(cosines[i, k] for k in order[:size]) for i, j in pairs]
    )
    for size in (10, len(y))
  }
  return rates, mates, cosines


def embed_to(path, model, files, root=None, **about):
  """A file of embeddings as facejax.embed makes it."""
  found = model.embed([str(p) for p in files], batch_size=4, flip=True)
  names = sorted({p.parent.name for p in files})
  embeddings.write(
    path,
    embeddings.Embeddings(
      found,
      np.asarray([str(p) for p in files]),
      np.asarray([names.index(p.parent.name) for p in files], np.int32),
      names,
      about,
    ),
  )
  return path


def test_images_are_searched_as_a_loop_does(model, sets):
  root, probes, strangers = sets
  result = megaface.searched(
    model, options(root / "facescrub"), distractors=str(root / "flickr")
  )
  rates, mates, cosines = slow(model, probes, strangers)
  assert result["rank_1_of_10"] == rates[10]
  assert result[f"rank_1_of_{STRANGERS}"] == rates[STRANGERS]
  for name, far in (("1e-1", 0.1), ("1e-2", 0.01)):
    bar = np.sort(cosines.ravel())[::-1][int(far * cosines.size)]
    assert result[f"tar_at_far_{name}"] == np.mean(mates > bar)
  assert result.quantities[0].key == f"rank_1_of_{STRANGERS}"
  assert "12 probes of 4 people, 24 trials, 24 distractors" in result.about
  assert result.curves["distractors"]["count"] == [10, STRANGERS]
  assert any("do not resolve FAR 1e-6" in text for text in result.warnings)
  for quantity in result.quantities:
    assert quantity.convention and quantity.low <= quantity.value
    assert quantity.value <= quantity.high, quantity.key
  other = megaface.searched(
    model, options(root / "facescrub"), distractors=str(root / "flickr"), seed=3
  )
  rates, *_ = slow(model, probes, strangers, seed=3)
  assert other["rank_1_of_10"] == rates[10]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_embeddings_stand_for_images(model, sets, tmp_path, suffix):
  if suffix == ".parquet":
    pytest.importorskip("pyarrow", reason="needs the parquet extra")
  root, probes, strangers = sets
  about = model.about(flip=True)
  stored = [
    embed_to(tmp_path / f"{k}{suffix}", model, files, **about)
    for k, files in enumerate((probes, strangers))
  ]
  found = megaface.searched(
    model, options(stored[0]), distractors=str(stored[1])
  )
  expected = megaface.searched(
    model, options(root / "facescrub"), distractors=str(root / "flickr")
  )
  assert {q.key: q.value for q in found.quantities} == {
    q.key: q.value for q in expected.quantities
  }
  assert not any("does not say" in text for text in found.warnings)
  assert "fingerprint of the probes" in expected.data
  assert [*found.data] == ["probes", "distractors"]


def test_lists_of_the_development_kit(model, sets):
  root, probes, strangers = sets
  few = strangers[3:17]
  content = {
    "id": [path.parent.name for path in probes],
    "path": [str(path.relative_to(root)) for path in probes],
  }
  (root / "facescrub_features_list.json").write_text(json.dumps(content))
  content = {"path": [str(path.relative_to(root)) for path in few]}
  listed = root / "megaface_features_list.json_14_1"
  listed.write_text(json.dumps(content))
  result = megaface.searched(
    model,
    options(root / "facescrub_features_list.json"),
    distractors=str(listed),
  )
  rates, *_ = slow(model, probes, few)
  assert result["rank_1_of_10"] == rates[10]
  assert result["rank_1_of_14"] == rates[14]


@pytest.mark.parametrize("stored", [False, True])
def test_the_refined_list_leaves_images_out(model, sets, tmp_path, stored):
  root, probes, strangers = sets
  (tmp_path / "facescrub_noises.txt").write_text(
    f"# noises\n{probes[4].stem}.jpg\nNobody_7.png\n"
  )
  gone = strangers[0], strangers[10], strangers[11]
  lines = [f"{k}\t{'/'.join(path.parts[-3:])}" for k, path in enumerate(gone)]
  (tmp_path / "megaface_noises.txt").write_text("\n".join(lines) + "\n")
  path = str(root / "flickr")
  if stored:
    about = model.about(flip=True)
    path = str(embed_to(tmp_path / "all.npz", model, strangers, **about))
  result = megaface.searched(
    model,
    options(root / "facescrub"),
    distractors=path,
    leave_out=[
      str(tmp_path / "facescrub_noises.txt"),
      str(tmp_path / "megaface_noises.txt"),
    ],
  )
  kept = [path for path in strangers if path not in gone]
  rates, *_ = slow(model, [*probes[:4], *probes[5:]], kept)
  assert result["rank_1_of_10"] == rates[10]
  assert result[f"rank_1_of_{len(kept)}"] == rates[len(kept)]
  (note,) = [note for note in result.notes if "left out" in note]
  assert note.startswith("4 of 5 listed") and "Nobody_7" in note


def test_many_distractors_are_compared_in_blocks(model, tmp_path, monkeypatch):
  """However they come, nothing but a block of them is asked for at once."""
  rng = np.random.default_rng(0)
  dim, people = model.card.embedding_dim, np.repeat(np.arange(20), 3)
  centres = rng.normal(size=(20, dim))
  probes = centres[people] + rng.normal(size=(60, dim))
  others = rng.normal(size=(5321, dim))
  for name, x, labels in (("p", probes, people), ("d", others, None)):
    members = {"embeddings": x.astype(np.float32)}
    members |= {} if labels is None else {"labels": labels}
    np.savez_compressed(tmp_path / f"{name}.npz", **members)
  blocks, add = [], metrics.Crowd.add

  def watched(self, block):
    blocks.append(len(block))
    add(self, block)

  monkeypatch.setattr(metrics.Crowd, "add", watched)
  monkeypatch.setattr(megaface.crowds, "_ROWS", 500)
  result = megaface.searched(
    model, options(tmp_path / "p.npz"), distractors=str(tmp_path / "d.npz")
  )
  assert sum(blocks) == 5321 and max(blocks) <= 500
  order = np.argsort(np.random.default_rng(0).permutation(5321))
  monkeypatch.setattr(metrics.Crowd, "add", add)
  for size in (10, 100, 1000, 5321):
    strangers = metrics.compare(
      probes.astype(np.float32),
      others[order[:size]].astype(np.float32),
      keep=60 * size + 1,
    )
    for key, far in (("1e-1", 0.1), ("1e-4", 1e-4), ("1e-5", 1e-5)):
      expected = metrics.megaface(probes, people, strangers, far=far)
      assert result[f"rank_1_of_{size}"] == expected.rank_one.value
      if size == 5321:
        assert result[f"tar_at_far_{key}"] == expected.tar.value
  assert sum("does not say" in text for text in result.warnings) == 2


def test_embeddings_of_another_net_are_refused(model, sets, tmp_path):
  root, _, strangers = sets
  about = model.about(flip=True) | {"step": 99}
  stored = embed_to(tmp_path / "other.npz", model, strangers, **about)
  with pytest.raises(ValueError, match="different nets .* step"):
    megaface.searched(
      model, options(root / "facescrub"), distractors=str(stored)
    )


def test_nobody_to_compare_is_refused(model, sets, tmp_path):
  root, probes, strangers = sets
  everybody = tmp_path / "all.txt"
  everybody.write_text("\n".join(p.name for p in [*probes, *strangers]))
  for path, message in (
    (root / "facescrub", "all distractors .* left out"),
    (root / "flickr", "all distractors"),
  ):
    with pytest.raises(ValueError, match=message):
      megaface.searched(
        model,
        options(path),
        distractors=str(root / "flickr"),
        leave_out=[str(everybody)],
      )
  with pytest.raises(ValueError, match="no probe whose person is known"):
    megaface.searched(
      model, options(strangers[0]), distractors=str(root / "flickr")
    )


def test_the_command(model, sets, capsys):
  root, *_ = sets
  arguments = ["--protocol", "megaface", "--path", root / "facescrub"]
  arguments += ["--distractors", root / "flickr", "--devices", 2]
  arguments += ["--batch-size", 4]
  assert evaluate.main([model.run, *map(str, arguments)]) == 0
  out = " ".join(capsys.readouterr().out.split())
  assert "Rank-1 among 24" in out and "TAR at FAR 1e-2" in out
  (result,) = results.read_all(model.run)
  assert result.name == "megaface_facescrub"
  page = pathlib.Path(model.run, "report", "index.html").read_text()
  assert "Rank-1 by distractors" in page


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["megaface", "--path", "x"], "needs --distractors"),
    (["megaface", "--distractors", "x"], "needs --path"),
    (["megaface", "--fold", "1"], "has no --fold"),
    (["ytf", "--pairs", "x"], "needs --path"),
    (["ytf", "--leave-out", "x"], "has no --leave-out"),
    (["ytf", "--gallery-net", "x"], "has no --gallery-net"),
    (["clustering", "--path", "x", "--frames", "3"], "has no --frames"),
  ],
)
def test_what_does_not_belong_is_refused(model, capsys, arguments, message):
  assert evaluate.main([model.run, "--protocol", *arguments]) == 2
  assert message in capsys.readouterr().err


def test_two_processes_find_what_one_does(model, sets, tmp_path):
  root, *_ = sets
  result = megaface.searched(
    model, options(root / "facescrub"), distractors=str(root / "flickr")
  )
  arguments = [model.run, "--protocol", "megaface", "--batch-size", 4]
  arguments += ["--path", root / "facescrub", "--distractors", root / "flickr"]
  codes, outputs = processes.run(arguments, command=("-m", "facejax.evaluate"))
  assert codes == [0, 0], outputs
  (found,) = results.read_all(model.run)
  assert [q.value for q in found.quantities] == [
    q.value for q in result.quantities
  ]
