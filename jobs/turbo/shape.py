"""Can this model be decoded here, and what is its shape? Read off the loaded model, refused in one sentence.

Why so strict: the compact decoder computes one kind of layer (grouped-query attention over all positions, rotary
embeddings, gated SiLU feed-forward, RMSNorm). A model with anything else (a window, a bias, another activation) would
run without an error and answer something else.

    shape = read_shape(model)           # shape.heads, shape.head_dim, ...
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from farm.errors import Unsupported

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
# Their frequencies depend on the length of the sequence: one table cannot hold them.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
_NEXT = "use engine eager"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the decoder must know of a model; sizes in elements. `scale` multiplies the attention scores."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    norm_eps: float
    scale: float
    max_positions: int

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def qkv_width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def read_shape(model: Any) -> Shape:
    """The shape of a transformers causal LM. Raises Unsupported when the decoder would compute something else."""
    config = model.config
    for reason in (_why_not_config(config), _why_not_layers(model), _why_not_device(model)):
        if reason is not None:
            raise Unsupported(f"the turbo engine cannot run this model: {reason}; {_NEXT}")
    attention = model.model.layers[0].self_attn
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=attention.head_dim,
        vocab=config.vocab_size,
        norm_eps=config.rms_norm_eps,
        scale=attention.scaling,
        max_positions=config.max_position_embeddings,
    )


def _why_not_config(config: Any) -> str | None:
    family = getattr(config, "model_type", None)
    if family not in FAMILIES:
        return f"its family is {family!r}, known are {', '.join(FAMILIES)}"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act!r}, known is 'silu'"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in _LENGTH_DEPENDENT_ROPE:
        return f"its rotary frequencies ({rope}) change with the length of the sequence"
    return _why_not_window(config)


def _why_not_window(config: Any) -> str | None:
    """Qwen configurations name a window that only some layers use; Mistral's holds for all of them."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    slides = kinds is None or "sliding_attention" in kinds
    if window and slides and window < config.max_position_embeddings:
        return f"its attention sees {window} positions of {config.max_position_embeddings} (a sliding window)"
    return None


def _why_not_layers(model: Any) -> str | None:
    blocks = getattr(getattr(model, "model", None), "layers", None)
    if not blocks or not hasattr(blocks[0], "self_attn"):
        return "it has no layers left: its weights were taken before; load it again"
    biased = [name for name, module in _without_bias(model) if getattr(module, "bias", None) is not None]
    if biased:
        return f"{biased[0]} has a bias, known are those of q_proj, k_proj and v_proj"
    rotary = 2 * model.model.rotary_emb.inv_freq.numel()
    if rotary != blocks[0].self_attn.head_dim:
        return f"only {rotary} of {blocks[0].self_attn.head_dim} dimensions of a head are rotated"
    return None


def _without_bias(model: Any) -> list[tuple[str, nn.Module]]:
    """The modules that add none in any model we know: all linear ones but those into q, k and v."""
    inner = {
        f"layers.{index}.{name}": layer.get_submodule(name)
        for index, layer in enumerate(model.model.layers)
        for name in ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    }
    return [*inner.items(), ("lm_head", model.get_output_embeddings())]


def _why_not_device(model: Any) -> str | None:
    homes = {str(parameter.device) for parameter in model.parameters()}
    return None if len(homes) == 1 else f"it is spread over {', '.join(sorted(homes))}, the decoder runs on one device"
