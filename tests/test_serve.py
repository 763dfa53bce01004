"""Faces over HTTP: what is answered, what is refused, and under load."""

import base64
import collections
import contextlib
import dataclasses
import http.client
import io
import json
import socket
import threading
import time
from concurrent import futures

import numpy as np
import pytest
from helpers import scenes
from PIL import Image

from facejax.evaluation import face_batches, face_http, face_service
from facejax.runs import photographs, thresholds
from facejax.runtime import unit_vectors
from facejax.vectors import gallery

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

TOKEN = "secret"


def picture(seed):
  file = io.BytesIO()
  Image.fromarray(scenes.face(seed)).save(file, "PNG")
  return file.getvalue()


def text(seed):
  return base64.b64encode(picture(seed)).decode()


@pytest.fixture
def service(tiny_model, tmp_path):
  photographer = photographs.Photographer(tiny_model.card, "off")
  made = face_service.FaceService(
    tiny_model, photographer, tmp_path / "gallery", threshold=0.999
  )
  yield made
  made.batches.close()


@contextlib.contextmanager
def serving(service, *, seconds=600.0, **limits):
  # Patient: what a machine is slow at is not what is tested.
  bounds = face_http.Limits(seconds=seconds, **limits)
  app = face_http.app(service, token=TOKEN, limits=bounds)
  with socket.socket() as place:
    place.bind(("127.0.0.1", 0))
    place.listen(64)
    config = uvicorn.Config(app, log_level="critical", timeout_keep_alive=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([place],), daemon=True)
    thread.start()
    while not server.started:
      time.sleep(0.01)
    try:
      yield place.getsockname()[1]
    finally:
      server.should_exit = True
      thread.join(600)
      assert not thread.is_alive()


def ask(port, path, body=None, *, token=TOKEN, method=None, timeout=600):
  link = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
  headers = {"Authorization": f"Bearer {token}"} if token else {}
  data = body if isinstance(body, bytes | None) else json.dumps(body)
  link.request(method or ("POST" if body else "GET"), path, data, headers)
  answer = link.getresponse()
  said = answer.read().decode()
  link.close()
  if answer.getheader("content-type", "").startswith("application/json"):
    return answer.status, json.loads(said)
  return answer.status, said


def test_enrol_identify_verify(service, tiny_model, tmp_path):
  with serving(service) as port:
    status, said = ask(port, "/identify", {"image": text(0)})
    assert status == 400 and "enrol somebody" in said["error"]
    for seed, name in enumerate(("Ada", "Bob")):
      body = {"name": name, "images": [text(seed)]}
      assert ask(port, "/enrol", body)[0] == 200
    status, said = ask(port, "/identify", {"image": text(1), "top": 1})
    assert (status, said["answer"]) == (200, "Bob")
    assert said["nearest"][0]["name"] == "Bob"
    assert ask(port, "/identify", {"image": text(2)})[1]["answer"] == "unknown"
    status, said = ask(port, "/verify", {"first": text(0), "second": text(1)})
    pair = tiny_model.embed([scenes.face(0), scenes.face(1)], flip=True)
    cosine = unit_vectors.similarity(*pair)
    assert said["similarity"] == pytest.approx(cosine, abs=1e-5)
    assert said["same_person"] is False
    assert said["strangers_as_high"] is said["log10_likelihood_ratio"] is None
    status, said = ask(port, "/health", token="")
    assert (status, said["people"], said["faces"]) == (200, 2, 2)
    status, said = ask(port, "/metrics")
    assert 'facejax_requests_total{route="/enrol",status="200"} 2' in said
    assert "facejax_gallery_people 2" in said
  # What was enrolled is on the disk, for whoever comes next.
  assert gallery.open_gallery(tmp_path / "gallery").people == 2


@pytest.mark.parametrize(
  ("path", "body", "status", "words"),
  [
    ("/verify", {"first": "x"}, 400, "'first' is no base64"),
    ("/verify", {"second": text(0)}, 400, "'first' must be"),
    ("/verify", {"first": "/etc/passwd", "second": "a"}, 400, "base64"),
    (
      "/identify",
      {"image": base64.b64encode(b"no").decode()},
      400,
      "not an image",
    ),
    ("/identify", {"image": text(0), "top": 1000}, 400, "'top'"),
    ("/identify", b"{", 400, "no JSON"),
    ("/identify", b"[" * 100_000, 400, "no JSON"),
    ("/identify", b"[1]", 400, "no JSON object"),
    ("/enrol", {"name": "a\nb", "images": [text(0)]}, 400, "printable"),
    ("/enrol", {"name": "", "images": [text(0)]}, 400, "name must"),
    ("/enrol", {"name": "a", "images": []}, 400, "1 to 20"),
    ("/enrol", {"name": "a", "images": [text(0)] * 21}, 400, "20 at most"),
    ("/enrol", {"name": "a", "images": text(0)}, 400, "a list"),
  ],
)
def test_what_is_refused(service, path, body, status, words):
  service.enrol("Ada", [picture(0)])
  with serving(service) as port:
    found, said = ask(port, path, body)
    assert found == status and words in said["error"], said


def test_tokens(service):
  with serving(service) as port:
    for token in ("", "wrong"):
      status, said = ask(port, "/metrics", token=token)
      assert status == 401 and "Bearer" in said["error"]
    assert ask(port, "/metrics")[0] == 200
    assert ask(port, "/no-such")[0] == 404
    assert ask(port, "/verify", method="GET")[0] == 405


def test_limits(service):
  with serving(service, body=2000, at_once=2) as port:
    status, said = ask(port, "/verify", b"x" * 3000)
    assert status == 413 and "2,000 bytes" in said["error"]
    assert ask(port, "/health")[0] == 200


def test_a_body_that_never_comes_is_not_waited_for(service):
  with (
    serving(service, seconds=0.5) as port,
    socket.create_connection(("127.0.0.1", port)) as link,
  ):
    head = "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
    link.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n{{".encode())
    link.settimeout(600)
    assert b" 408 " in link.recv(100)


@pytest.mark.slow
def test_under_load_nothing_is_lost_and_nothing_hangs(service):
  # 200 requests of 8 clients; some are too large, some break off.
  def client(number):
    outcomes = collections.Counter()
    for k in range(25):
      kind = (number * 25 + k) % 10
      if kind == 3:
        outcomes[ask(port, "/verify", b"x" * 2**17)[0]] += 1
      elif kind == 7:
        with socket.create_connection(("127.0.0.1", port)) as link:
          head = "POST /enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n"
          link.sendall(
            f"{head}Authorization: Bearer {TOKEN}\r\n\r\nab".encode()
          )
        outcomes["left"] += 1
      elif kind == 5:
        body = {"name": f"person{number}-{k}", "images": [text(k)]}
        outcomes["enrol", ask(port, "/enrol", body)[0]] += 1
      else:
        status, said = ask(
          port, "/verify", {"first": text(k), "second": text(k)}
        )
        outcomes[status, said.get("same_person")] += 1
    return outcomes

  # Their pictures have some kilobytes.
  with serving(service, body=2**16, at_once=16) as port:
    with futures.ThreadPoolExecutor(8) as pool:
      done = sum(pool.map(client, range(8)), collections.Counter())
    assert ask(port, "/health")[1]["people"] == done["enrol", 200] == 20
  assert done == {413: 20, "left": 20, ("enrol", 200): 20, (200, True): 140}
  assert service.batches.faces == 2 * 140 + 20
  assert service.batches.batches < service.batches.faces


def test_one_bad_face_does_not_fail_the_others():
  asked = []

  def embed(images):
    asked.append(len(images))
    if any(image.max() == 0 for image in images):
      raise ValueError("embedding is zero")
    return np.stack([[image.mean()] for image in images])

  batches = face_batches.FaceBatches(embed, wait=0.2)
  with futures.ThreadPoolExecutor(3) as pool:
    images = [np.full((2, 2, 3), n, np.uint8) for n in (0, 1, 2)]
    waiting = [pool.submit(batches, [image]) for image in images]
    with pytest.raises(ValueError, match="zero"):
      waiting[0].result()
    assert [w.result().tolist() for w in waiting[1:]] == [[[1]], [[2]]]
  batches.close()
  assert set(asked) <= set(face_batches.SIZES)


def test_a_net_of_generated_faces_gives_no_verdict(tiny_model, monkeypatch):
  about = dataclasses.replace(tiny_model.card, trained_on="generated faces")
  monkeypatch.setattr(tiny_model, "card", about)
  photographer = photographs.Photographer(tiny_model.card, "off")
  made = face_service.FaceService(tiny_model, photographer, None)
  said = made.verify(picture(0), picture(0))
  assert said["same_person"] is None and "generated faces" in said["notes"][0]
  with pytest.raises(ValueError, match="--gallery"):
    made.enrol("Ada", [picture(0)])
  made.batches.close()


def test_what_a_run_keeps_of_its_threshold_is_told(
  tiny_model, tmp_path, monkeypatch
):
  rates = [thresholds.MatchRate(-1.0, 0.5, 0.4, 0.6)]
  ratio = thresholds.RatioLine(0, 1, -3, 3)
  decides = thresholds.Threshold(0.5, 0.9, "mine", rates=rates, ratio=ratio)
  monkeypatch.setattr(tiny_model, "decides", decides)
  photographer = photographs.Photographer(tiny_model.card, "off")
  made = face_service.FaceService(tiny_model, photographer, None)
  try:
    said = made.verify(picture(0), picture(1))
    assert said["strangers_as_high"]["rate"] == 0.5
    assert said["log10_likelihood_ratio"] == 1
  finally:
    made.batches.close()
