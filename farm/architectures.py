"""Decoder architectures as numbers: how many bytes a model must hold and how many FLOPs a token costs.

The physics: a Llama-family layer holds four attention matrices and three feed-forward ones. Decoding one token reads
every weight once and the whole KV cache once; a prompt token costs 2 FLOPs a weight plus the attention itself.

    >>> KNOWN["llama-3-8b"].parameters
    8030261248
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Architecture:
    """Shape of a Llama-family decoder (grouped-query attention, gated feed-forward, RMSNorm)."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_positions: int
    tied_embeddings: bool
    rope_theta: float
    norm_eps: float

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers inside the blocks: what quantization shrinks."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def other_parameters(self) -> int:
        """Embeddings, head (once when tied) and norms: kept in 16 or 32 bit by every precision."""
        embeddings = self.vocab * self.hidden * (1 if self.tied_embeddings else 2)
        return embeddings + self.hidden * (2 * self.layers + 1)

    @property
    def parameters(self) -> int:
        return self.linear_parameters + self.other_parameters

    def kv_bytes_per_token(self, bytes_per_value: float = 2) -> float:
        """Keys and values of one token over all layers, in bytes."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def weight_bytes(self, linear_bits: float, other_bits: int) -> float:
        return (self.linear_parameters * linear_bits + self.other_parameters * other_bits) / 8


KNOWN: dict[str, Architecture] = {
    "llama-3-8b": Architecture(32, 4096, 14336, 32, 8, 128, 128256, 8192, False, 500000.0, 1e-5),
    "mistral-7b": Architecture(32, 4096, 14336, 32, 8, 128, 32768, 32768, False, 1000000.0, 1e-5),
    "smollm2-135m": Architecture(30, 576, 1536, 9, 3, 64, 49152, 8192, True, 100000.0, 1e-5),
    # Two layers of it, to try a machine, a kernel or a compiler out in seconds.
    "smollm2-2-layers": Architecture(2, 576, 1536, 9, 3, 64, 49152, 8192, True, 100000.0, 1e-5),
}


# Same matrices as Llama, so the counts hold; a mixture of experts or an ungated feed-forward would be counted wrongly.
LLAMA_LIKE = frozenset(
    ("llama", "mistral", "ministral", "qwen2", "qwen3", "phi3", "gemma", "granite", "smollm3", "olmo", "olmo2")
)


def from_config(config: Mapping[str, Any]) -> Architecture:
    """Read a Hugging Face `config.json` of a Llama-family model. Raises KeyError when a field is missing."""
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return Architecture(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocab=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        rope_theta=float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0),
        norm_eps=config.get("rms_norm_eps", 1e-6),
    )


def architecture_of_config(config: Mapping[str, Any]) -> Architecture | None:
    """The shape of a loaded model's `config.to_dict()`. None, and never an exception, where our counts would be wrong.

    A sliding window shorter than the model's positions bounds the KV cache that is read: not counted here.
    """
    try:
        known = config.get("model_type") in LLAMA_LIKE and not _slides(config)
        return from_config(config) if known else None
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _slides(config: Mapping[str, Any]) -> bool:
    window = config.get("sliding_window")
    return bool(window) and config.get("use_sliding_window", True) and window < config["max_position_embeddings"]
