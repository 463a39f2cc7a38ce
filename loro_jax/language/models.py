"""Language models as files: a path, a known short name, or `hf:owner/repository/file`."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib

from loro_jax.errors import UserError

MISSING_EXTRA = (
    "playing a language model needs llama.cpp: pip install 'loro_jax[llm]'"
    " (from a checkout: pip install -e '.[llm]')"
)


@dataclasses.dataclass(frozen=True)
class KnownModel:
    """A model file that the suite knows by a short name."""

    file: str
    sha256: str


KNOWN: dict[str, KnownModel] = {
    "smollm2-135m-instruct": KnownModel(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "qwen2.5-coder-0.5b-instruct": KnownModel(
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "qwen2.5-coder-1.5b-instruct": KnownModel(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}


PINNED = {known.sha256: name for name, known in KNOWN.items()}
"""The known files' names, by their SHA-256."""


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A model file on this machine.

    Attributes:
        name: short name, used in the dataset's folder and card.
        path: the .gguf file.
        sha256: of the whole file.
    """

    name: str
    path: pathlib.Path
    sha256: str


def cache() -> pathlib.Path:
    """Where known models are looked up: $LORO_JAX_MODELS, or ~/.cache/loro_jax/models."""
    given = os.environ.get("LORO_JAX_MODELS")
    return pathlib.Path(given) if given else pathlib.Path.home() / ".cache" / "loro_jax" / "models"


def find(model: str) -> ModelFile:
    """The model's file, checked to be GGUF and, for a known name, to be the known file.

    A `UserError` says what is missing and where it was looked for.
    """
    if model.startswith("hf:"):
        path = _fetch(model)
    elif model in KNOWN:
        path = cache() / KNOWN[model].file
        if not path.is_file():
            raise UserError(
                f"{model}: {path} does not exist; put the file there, set LORO_JAX_MODELS to its folder,"
                " or give --model a path or hf:owner/repository/file"
            )
    else:
        path = pathlib.Path(model)
        if not path.is_file():
            raise UserError(
                f"no model file at '{model}'; give a .gguf file, hf:owner/repository/file,"
                f" or one of {', '.join(KNOWN)}"
            )
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise UserError(f"{path}: not a GGUF file; llama.cpp reads models in GGUF format only")
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if model in KNOWN and sha256 != KNOWN[model].sha256:
        raise UserError(
            f"{path}: SHA-256 is not that of {model}; fetch it again, or give it by --model {path}"
        )
    return ModelFile(PINNED.get(sha256, path.stem.lower()), path, sha256)


def _fetch(model: str) -> pathlib.Path:
    """Downloads `hf:owner/repository/file` through huggingface_hub, or finds it in its cache."""
    parts = model.removeprefix("hf:").split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise UserError(f"'{model}': write hf:owner/repository/file.gguf")
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(MISSING_EXTRA) from None
    try:
        return pathlib.Path(huggingface_hub.hf_hub_download(f"{parts[0]}/{parts[1]}", parts[2]))
    except Exception as error:  # every way a download can fail: network, authorisation, a wrong name
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{model}: could not be fetched ({first_line})") from None
