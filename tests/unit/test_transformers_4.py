"""What transformers 4 names differently is translated in one place, and nothing is beside transformers 5."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from farm.architectures import KNOWN
from farm.errors import Unsupported
from jobs.models import transformers_4
from jobs.models.random_weights import llama_config
from jobs.models.sources import Located
from jobs.models.transformers_4 import as_here, readable, translated_config, translated_tokenizer


@pytest.fixture
def beside_4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transformers_4, "is_4", lambda: True)
    monkeypatch.setenv("TURBO_CACHE", str(tmp_path / "cache"))


def folder_with(path: Path, config: dict[str, Any]) -> Located:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    (path / "model.safetensors").write_bytes(b"weights")
    return Located(str(path), None, None)


def test_what_transformers_5_writes_keeps_its_rotary_base() -> None:
    """Read as it is, version 4 would fall back on 10,000 without a word."""
    written = llama_config(KNOWN["smollm2-135m"], torch.bfloat16).to_dict()
    assert "rope_theta" not in written
    translated = translated_config(written)
    assert translated["rope_theta"] == KNOWN["smollm2-135m"].rope_theta
    assert "rope_parameters" not in translated
    assert (written["dtype"], "dtype" in translated) == (translated["torch_dtype"], False)


def test_scaled_positions_keep_their_scaling() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
    assert translated_config({"rope_parameters": rope}) == {
        "rope_theta": 5e5,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    }


def test_what_version_4_wrote_comes_back_unchanged() -> None:
    old = {"rope_theta": 1e4, "rope_scaling": None, "torch_dtype": "float16", "vocab_size": 7}
    assert translated_config(old) == old


def test_positions_that_differ_by_layer_are_refused() -> None:
    with pytest.raises(Unsupported, match="transformers 4 cannot read; use gptq or awq"):
        translated_config({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}})


@pytest.mark.parametrize("name", ["TokenizersBackend", "TokenizersBackendFast"])
def test_a_tokenizer_of_version_5(name: str) -> None:
    found = translated_tokenizer({"tokenizer_class": name, "extra_special_tokens": ["<a>"]})
    assert found == {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>"]}
    assert translated_tokenizer({"tokenizer_class": "LlamaTokenizer"}) == {"tokenizer_class": "LlamaTokenizer"}


def test_a_folder_is_read_through_a_view_that_links_to_its_weights(beside_4: None, tmp_path: Path) -> None:
    located = folder_with(tmp_path / "model", {"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}})
    view = Path(readable(located).name_or_path)
    assert json.loads((view / "config.json").read_text()) == {"rope_theta": 1e5}
    assert json.loads((view / "tokenizer_config.json").read_text()) == {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert (view / "model.safetensors").resolve() == tmp_path / "model" / "model.safetensors"
    assert Path(readable(located).name_or_path) == view
    (tmp_path / "model" / "config.json").write_text('{"rope_theta": 2}')
    assert Path(readable(located).name_or_path) != view


def test_beside_version_5_everything_is_left_alone(tmp_path: Path) -> None:
    located = folder_with(tmp_path / "model", {"rope_parameters": {"rope_theta": 1e5}})
    assert readable(located) is located
    assert as_here({"dtype": torch.float16}) == {"dtype": torch.float16}
    assert isinstance(LlamaConfig(**as_here({"dtype": "float16"})), LlamaConfig)


def test_beside_version_4_arguments_are_translated(beside_4: None) -> None:
    assert as_here({"dtype": torch.float16}) == {"torch_dtype": torch.float16}


def test_a_cache_of_version_4_tells_its_tensors() -> None:
    old = SimpleNamespace(key_cache=[1, 2], value_cache=[3, 4])
    new = SimpleNamespace(layers=[SimpleNamespace(keys=1, values=3), SimpleNamespace(keys=2, values=4)])
    assert sorted(transformers_4.cached_tensors(old)) == sorted(transformers_4.cached_tensors(new)) == [1, 2, 3, 4]


def test_a_new_cache_is_asked_for_as_each_version_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(**how: Any) -> dict[str, Any]:
        return how

    assert transformers_4.new_cache(kind, "config") == {"config": "config"}
    monkeypatch.setattr(transformers_4, "is_4", lambda: True)
    assert transformers_4.new_cache(kind, "config") == {}
