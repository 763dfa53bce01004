"""Verify, identify and enrol faces of pictures, for whoever asks over a network.

Pictures come as bytes: nothing here takes the path of a file.
"""

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from facejax.evaluation import face_batches
from facejax.runs import embedder, photographs, thresholds
from facejax.runtime import unit_vectors
from facejax.vectors import embeddings as embeddings_lib
from facejax.vectors import gallery as gallery_lib
from facejax.vectors import gallery_changes, nearest, verdicts

_LONGEST_NAME = 200
MOST_IMAGES = 20


class FaceService:
  """A net and a gallery, asked from many threads.

  Args:
    model: the net.
    photographer: makes faces of pictures.
    gallery: the folder of known faces; None for verification alone. Where there
      is none yet, enrolling makes it.
    threshold: cosine that decides; that of the run's verification if None.

  Raises:
    ValueError: if the gallery is of another net, or damaged.
  """

  def __init__(
    self,
    model: embedder.Embedder,
    photographer: photographs.Photographer,
    gallery: str | os.PathLike[str] | None,
    *,
    threshold: float | None = None,
  ):
    self._photographer, self._folder = photographer, gallery
    card = model.card
    # As a gallery's file gives it back.
    self._about = json.loads(json.dumps(model.about(flip=True)))
    self.net, self._generated = card.net, card.generated
    self.threshold = model.threshold if threshold is None else threshold
    self._decides = model.decides
    if card.generated:
      self._decides = None
      self.threshold = threshold
    self.batches = face_batches.FaceBatches(
      lambda images: model.embed(images, flip=True)
    )
    self._changing = threading.Lock()
    self._known: gallery_lib.Gallery | None = None
    if gallery is not None and gallery_lib.is_gallery(gallery):
      self._known = gallery_lib.open_gallery(gallery)
      gallery_lib.check_same_net(self._known.known.about, self._about)

  @property
  def state(self) -> dict[str, Any]:
    """What runs here."""
    known = self._known
    return {
      "net": self.net,
      "threshold": self.threshold,
      "faces": known.faces if known else 0,
      "people": known.people if known else 0,
    }

  def verify(self, first: bytes, second: bytes) -> dict[str, Any]:
    """Whether two pictures show one person.

    Raises:
      ValueError: if a picture cannot be read.
    """
    faces = [
      self._photographer.of_data(data, name)
      for data, name in ((first, "first"), (second, "second"))
    ]
    pair = self.batches([face.pixels for face in faces])
    cosine = float(unit_vectors.similarity(*pair))
    sure = all(face.certain for face in faces)
    same = verdicts.same_person(cosine, self.threshold if sure else None)
    return {
      "similarity": cosine,
      "same_person": None if same is None else bool(same),
      "threshold": self.threshold,
      **thresholds.told(self._decides if sure else None, cosine),
      "notes": self._notes(faces),
    }

  def identify(self, picture: bytes, top: int) -> dict[str, Any]:
    """Who a picture shows, and the nearest faces.

    Raises:
      ValueError: if it cannot be read, or nobody is known.
    """
    known = self._known
    if known is None:
      raise ValueError("nobody is known yet: enrol somebody first")
    face = self._photographer.of_data(picture, "image")
    vectors = self.batches([face.pixels])
    found = known.search(vectors, min(top, known.faces))
    threshold = self.threshold if face.certain else None
    voters = nearest.Neighbours(*(part[:, :1] for part in found))
    answer = known.answers(voters, threshold=threshold)
    rows = zip(found.rows[0], found.scores[0], strict=True)
    return {
      "answer": verdicts.answer(known.name(int(answer.rows[0])), threshold),
      "threshold": threshold,
      "nearest": [
        {"name": known.name(int(row)), "similarity": float(score)}
        for row, score in rows
        if row >= 0
      ],
      "notes": self._notes([face]),
    }

  def enrol(self, name: str, pictures: Sequence[bytes]) -> dict[str, Any]:
    """Adds a person's faces to the gallery; whole or not at all.

    Raises:
      ValueError: if the name or a picture will not do, a picture shows no face,
        or there is no gallery.
    """
    name = name.strip()
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
      raise ValueError(f"name must have 1 to {_LONGEST_NAME} printable letters")
    if not 0 < len(pictures) <= MOST_IMAGES:
      raise ValueError(f"images must be 1 to {MOST_IMAGES} pictures")
    if self._folder is None:
      raise ValueError("this service has no gallery: start it with --gallery")
    faces = [
      self._photographer.of_data(data, f"image {k}")
      for k, data in enumerate(pictures)
    ]
    for k, face in enumerate(faces):
      if not face.certain:
        raise ValueError(f"image {k} shows no face that was found")
    fresh = embeddings_lib.Embeddings(
      self.batches([face.pixels for face in faces]),
      # No name of a file: there is none.
      np.asarray([hashlib.sha256(data).hexdigest()[:16] for data in pictures]),
      np.zeros(len(faces), np.int32),
      [name],
      self._about,
    )
    with self._changing:
      if self._known is None:
        self._known = gallery_lib.build(self._folder, [fresh])
      else:
        self._known = gallery_changes.add(self._folder, [fresh])
    return {"name": name, "added": len(faces), **self.state}

  def _notes(self, faces: Sequence[photographs.Face]) -> list[str]:
    said = [face.note for face in faces if face.note]
    return said + [verdicts.NOT_OF_PEOPLE] * self._generated
