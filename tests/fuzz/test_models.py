"""Damaged models: llama.cpp, which ends the process on some, never does so in this one."""

from __future__ import annotations

import pathlib
from typing import Any

import bases
import pytest

from loro_jax.errors import UserError
from loro_jax.language import gguf, llamacpp, models
from loro_jax.language.backend import Decoding, Query

FORM: dict[str, dict[str, Any]] = {
    "not finite": {"llama.rope.freq_base": float("nan")},
    "aligned to nothing": {"general.alignment": 0},
    "aligned to three bytes": {"general.alignment": 3},
    "no architecture": {"general.architecture": 3},
    "an endless text": {"general.name": "\n\x1b[31m" * 30_000},
}
"""Settings that a header check refuses, or that do no harm."""


def written(tmp_path: pathlib.Path, changes: dict[str, Any]) -> models.ModelFile:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(bases.gguf(**{k.replace(".", "__"): v for k, v in changes.items()})[0])
    return models.find(str(path))


@pytest.mark.parametrize("case", FORM)
def test_a_header_is_looked_through(case: str, tmp_path: pathlib.Path) -> None:
    model = written(tmp_path, FORM[case])
    if case == "an endless text":
        gguf.check(model.path)
        return
    with pytest.raises(UserError, match=r"tiny.gguf: damaged, not a GGUF model") as refused:
        gguf.check(model.path)
    assert str(refused.value).isprintable()


MEANING: dict[str, dict[str, Any]] = {
    "no layers": {"llama.block_count": 0},
    "other heads": {"llama.attention.head_count": 5},
    "no frequency": {"llama.rope.freq_base": 0.0},
    "too many experts": {"llama.expert_count": 300},
    "another tokenizer": {"tokenizer.ggml.model": "llama"},
    "a template that is none": {"tokenizer.chat_template": "{% for %}"},
    "a template that looks around": {
        "tokenizer.chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}"
    },
    "a template without end": {
        "tokenizer.chat_template": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in"
        " range(9999) %}x{% endfor %}{% endfor %}{% endfor %}"
    },
}
"""Settings of a sound form that llama.cpp, or jinja, stumbles over; on some llama.cpp ends the process."""


@pytest.mark.slow
@pytest.mark.llm
@pytest.mark.parametrize("case", MEANING)
def test_a_model_is_tried_in_a_process_of_its_own(
    case: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp", reason="the extra `llm` is not installed")
    if case == "a template without end":
        monkeypatch.setattr(llamacpp, "PATIENCE", 20)
    model = written(tmp_path, MEANING[case])
    gguf.check(model.path)
    with pytest.raises(UserError, match=r"tiny.gguf: (llama.cpp|its)") as refused:
        llamacpp.LlamaCpp(model, Decoding(), threads=1, parallel=1, context=256)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500


@pytest.mark.slow
@pytest.mark.llm
def test_a_sound_model_passes_its_trial(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("llama_cpp", reason="the extra `llm` is not installed")
    decoding = Decoding(max_tokens=4)
    with llamacpp.LlamaCpp(written(tmp_path, {}), decoding, threads=1, parallel=1, context=256) as llama:
        (said,) = llama.complete([Query("", "Hello.", "", 0)])
        assert said.answer_tokens > 0
