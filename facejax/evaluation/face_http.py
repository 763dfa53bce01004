"""The HTTP side of `face_service`: routes, limits, a token, metrics.

JSON in, JSON out; pictures are base64. A request that is too large, too slow, or
one too many is answered and let go.
"""

import asyncio
import base64
import binascii
import collections
import hmac
import json
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any, NamedTuple

from facejax.evaluation import face_service
from facejax.runtime import extras

_MOST_SHOWN = 100


class Limits(NamedTuple):
  """What a request may take.

  Attributes:
    body: bytes of it.
    seconds: to send it, and again to answer it.
    at_once: requests that are worked on at a time; others are told to wait.
  """

  body: int = 16 * 2**20
  seconds: float = 30.0
  at_once: int = 32


class Slots:
  """The threads that work, one a request."""

  def __init__(self, limits: Limits):
    self.free = asyncio.Semaphore(limits.at_once)
    self._pool = futures.ThreadPoolExecutor(limits.at_once)

  async def work(
    self, act: Callable[..., Any], given: Mapping[str, Any]
  ) -> Any:
    """What `act` makes of a request, in a thread."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._pool, act, given)


class RefusedError(Exception):
  """A request is refused, with a status of HTTP."""

  def __init__(self, status: int, why: str):
    super().__init__(why)
    self.status = status


class RequestCounts:
  """How many requests of each route ended how, and how long they took."""

  def __init__(self):
    self.requests = collections.Counter[tuple[str, int]]()
    self.seconds = collections.defaultdict[str, float](float)

  def add(self, route: str, status: int, seconds: float) -> None:
    """Notes one request."""
    self.requests[route, status] += 1
    self.seconds[route] += seconds

  def text(self, service: face_service.FaceService) -> str:
    """In the format that Prometheus reads."""
    lines = [
      f'facejax_requests_total{{route="{route}",status="{status}"}} {count}'
      for (route, status), count in sorted(self.requests.items())
    ]
    lines += [
      f'facejax_request_seconds_sum{{route="{route}"}} {seconds:.6f}'
      for route, seconds in sorted(self.seconds.items())
    ]
    state = service.state
    lines += [
      f"facejax_batches_total {service.batches.batches}",
      f"facejax_batched_faces_total {service.batches.faces}",
      f"facejax_gallery_faces {state['faces']}",
      f"facejax_gallery_people {state['people']}",
    ]
    return "\n".join(lines) + "\n"


def app(
  service: face_service.FaceService, *, token: str, limits: Limits
) -> Any:
  """The ASGI application.

  Args:
    service: what answers.
    token: that requests must carry, `Authorization: Bearer TOKEN`; "" for none.
    limits: of a request.

  Raises:
    MissingPackageError: without starlette.
  """
  with extras.needed():
    from starlette import applications, responses, routing
  counts = RequestCounts()
  slots = Slots(limits)

  def route(path: str, method: str, act: Callable[..., Any], *, free=False):
    async def answer(request):
      begun, status = time.monotonic(), 500
      try:
        if token and not free:
          _check_token(request.headers.get("authorization", ""), token)
        status, body = await _answered(request, act, limits, slots)
      except RefusedError as error:
        status, body = error.status, {"error": str(error)}
      finally:
        counts.add(path, status, time.monotonic() - begun)
      if isinstance(body, str):
        return responses.PlainTextResponse(body, status)
      return responses.JSONResponse(body, status)

    return routing.Route(path, answer, methods=[method])

  return applications.Starlette(
    routes=[
      route(
        "/health", "GET", lambda _: {"status": "ok", **service.state}, free=True
      ),
      route("/metrics", "GET", lambda _: counts.text(service)),
      route("/verify", "POST", lambda given: _verify(service, given)),
      route("/identify", "POST", lambda given: _identify(service, given)),
      route("/enrol", "POST", lambda given: _enrol(service, given)),
    ]
  )


def _check_token(said: str, token: str) -> None:
  kind, _, given = said.partition(" ")
  if kind.lower() != "bearer" or not hmac.compare_digest(
    given.strip().encode(), token.encode()
  ):
    raise RefusedError(
      401, "say Authorization: Bearer TOKEN, as it was printed"
    )


async def _answered(
  request: Any,
  act: Callable[..., Any],
  limits: Limits,
  slots: Slots,
) -> tuple[int, Any]:
  """Reads, works in a thread, and gives up in time."""
  given: Mapping[str, Any] = {}
  if request.method == "POST":
    try:
      async with asyncio.timeout(limits.seconds):
        given = await _body(request, limits.body)
    except TimeoutError:
      raise RefusedError(
        408, f"sent for more than {limits.seconds:g} s"
      ) from None
  if slots.free.locked():
    raise RefusedError(503, f"{limits.at_once} requests are worked on: wait")
  async with slots.free:
    try:
      async with asyncio.timeout(limits.seconds):
        return 200, await slots.work(act, given)
    except TimeoutError:
      raise RefusedError(
        503, f"no answer within {limits.seconds:g} s"
      ) from None
    except ValueError as error:
      raise RefusedError(400, str(error)) from None


async def _body(request: Any, most: int) -> Mapping[str, Any]:
  """The JSON of a request, never more of it than may be."""
  from starlette import requests

  data = bytearray()
  try:
    async for part in request.stream():
      data += part
      if len(data) > most:
        raise RefusedError(413, f"more than {most:,} bytes")
  except requests.ClientDisconnect:
    raise RefusedError(400, "the connection ended") from None
  try:
    given = json.loads(bytes(data))
  except (ValueError, RecursionError) as error:
    raise RefusedError(400, f"no JSON: {error}") from None
  if not isinstance(given, dict):
    raise RefusedError(400, "no JSON object")
  return given


def _picture(given: Mapping[str, Any], name: str) -> bytes:
  return _decoded(given.get(name), name)


def _decoded(text: Any, name: str) -> bytes:
  if not isinstance(text, str) or not text:
    raise ValueError(f"{name!r} must be a picture's bytes in base64")
  try:
    return base64.b64decode(text, validate=True)
  except (binascii.Error, ValueError) as error:
    raise ValueError(f"{name!r} is no base64: {error}") from None


def _verify(service, given: Mapping[str, Any]) -> dict[str, Any]:
  return service.verify(_picture(given, "first"), _picture(given, "second"))


def _identify(service, given: Mapping[str, Any]) -> dict[str, Any]:
  top = given.get("top", 5)
  if type(top) is not int or not 1 <= top <= _MOST_SHOWN:
    raise ValueError(f"'top' must be a whole number from 1 to {_MOST_SHOWN}")
  return service.identify(_picture(given, "image"), top)


def _enrol(service, given: Mapping[str, Any]) -> dict[str, Any]:
  name, pictures = given.get("name"), given.get("images")
  if not isinstance(name, str) or not isinstance(pictures, list):
    raise ValueError("'name' must be a text and 'images' a list of pictures")
  if len(pictures) > face_service.MOST_IMAGES:
    raise ValueError(f"'images' may be {face_service.MOST_IMAGES} at most")
  return service.enrol(
    name, [_decoded(one, f"images[{k}]") for k, one in enumerate(pictures)]
  )
