"""What is mended and checked after an old loader is done, on small models; the old packages are not needed for it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from farm.errors import ModelUnavailable
from farm.quantization import parse_quantization
from jobs.legacy.backend import complete
from jobs.quantization.legacy_auto_gptq import BACKEND

GROUP, ROWS, COLUMNS = 8, 16, 8


def model(tied: bool) -> LlamaForCausalLM:
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 32}
    torch.manual_seed(0)
    made = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=1, tie_word_embeddings=tied))
    made.tie_weights()
    return made


def stored(made: LlamaForCausalLM, folder: Path, *without: str) -> Path:
    tensors = {name: tensor.clone() for name, tensor in made.state_dict().items() if name not in without}
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("lacking", ["lm_head.weight", "model.embed_tokens.weight"])
def test_embeddings_that_were_tied_to_a_head_of_zeros_are_restored(tmp_path: Path, lacking: str) -> None:
    """Whichever of the two names the checkpoint holds."""
    made = model(tied=True)
    expected = made.get_input_embeddings().weight.detach().clone()
    folder = stored(made, tmp_path, lacking)
    nn.init.zeros_(made.get_input_embeddings().weight)
    mended = complete(made, folder)
    assert torch.equal(mended.get_input_embeddings().weight, expected)
    assert mended.get_output_embeddings().weight is mended.get_input_embeddings().weight
    assert not any(parameter.requires_grad for parameter in mended.parameters())


def test_a_model_with_a_head_of_its_own_is_left_alone(tmp_path: Path) -> None:
    made = model(tied=False)
    folder = stored(made, tmp_path)
    head = nn.init.ones_(made.get_output_embeddings().weight).detach().clone()
    assert torch.equal(complete(made, folder).get_output_embeddings().weight, head)


@pytest.mark.parametrize("tied", [True, False])
def test_a_tensor_that_the_checkpoint_lacks_is_no_silent_zero(tmp_path: Path, tied: bool) -> None:
    made = model(tied)
    folder = stored(made, tmp_path, "model.embed_tokens.weight", "lm_head.weight")
    with pytest.raises(ModelUnavailable, match=r"lacks 2 tensors.*embed_tokens"):
        complete(made, folder)


def test_the_packed_codes_of_autogptq_are_read_as_its_layer_reads_them() -> None:
    """By hand: code c of row r and column k, zero point z stored as z - 1, scale s: the weight is s (c - z)."""
    codes = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 16
    zeros = torch.tensor([[7] * COLUMNS, [8] * COLUMNS])
    scales = torch.tensor([[0.5] * COLUMNS, [0.25] * COLUMNS])
    groups = torch.arange(ROWS) // GROUP
    layer = SimpleNamespace(
        qweight=packed(codes),
        qzeros=packed((zeros - 1).T).T,
        scales=scales,
        g_idx=groups.int(),
    )
    weights = BACKEND.dequantized(layer)  # type: ignore[arg-type]
    assert weights is not None
    assert torch.equal(weights, (scales[groups] * (codes - zeros[groups])).T)
    assert BACKEND.linear_classes(parse_quantization("auto-gptq"), "cpu") == ("QuantLinear",)


def packed(codes: torch.Tensor) -> torch.Tensor:
    """Eight 4-bit codes of consecutive rows in one int32, the first in the lowest bits."""
    words = torch.zeros(codes.shape[0] // 8, codes.shape[1], dtype=torch.int64)
    for row, values in enumerate(codes):
        words[row // 8] |= values << (4 * (row % 8))
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)
