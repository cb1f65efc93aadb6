"""A model of the true shape with made-up weights: its speed and memory are real, its answers mean nothing.

Why: tokens per second depend on shapes and types, not on values, so an 8B model can be timed where its weights cannot
be had. Llama and Mistral-7B v0.3 compute the same thing (v0.3 dropped the sliding window), so one class serves both.

The physics: an 8B model is 16 GB in 16 bit. It is laid out on the meta device (no memory), gets empty storage on the
target device in its final type, and is filled there tensor by tensor: no float32 copy, no copy on the host.

    >>> from farm.architectures import KNOWN
    >>> model = build_random(KNOWN["smollm2-135m"], torch.float32, "cpu", seed=0)
    >>> model.num_parameters() == KNOWN["smollm2-135m"].parameters
    True
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from farm.architectures import Architecture
from jobs.models.transformers_4 import as_here

# What Llama-family models are initialized with before training: keeps the activations finite through 32 layers.
WEIGHT_STD = 0.02


def build_random(
    architecture: Architecture, dtype: torch.dtype, device: torch.device | str, seed: int
) -> LlamaForCausalLM:
    """Build the model on `device`, ready for inference. The same seed gives the same weights on the same device type.

    CPU and CUDA generators draw different numbers, so weights are not comparable across devices.
    """
    config = llama_config(architecture, dtype)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    torch.nn.Module.to(model, dtype).to_empty(device=device)
    model.tie_weights()
    _restore_rotary(model, device)
    _fill(model, seed)
    return model.eval().requires_grad_(False)


def llama_config(architecture: Architecture, dtype: torch.dtype) -> LlamaConfig:
    """The architecture as the transformers here spells it."""
    spelled = {
        "num_hidden_layers": architecture.layers,
        "hidden_size": architecture.hidden,
        "intermediate_size": architecture.intermediate,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads,
        "head_dim": architecture.head_dim,
        "vocab_size": architecture.vocab,
        "max_position_embeddings": architecture.max_positions,
        "tie_word_embeddings": architecture.tied_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": architecture.rope_theta},
        "rms_norm_eps": architecture.norm_eps,
        "dtype": dtype,
    }
    return LlamaConfig(**as_here(spelled))


def _restore_rotary(model: LlamaForCausalLM, device: torch.device | str) -> None:
    """`to_empty` leaves garbage in the rotary frequencies: they are computed buffers and in no checkpoint.

    Made anew on the CPU in float32, as loading a checkpoint does; in 16 bit, distant positions would run together.
    """
    rotary = type(model.model.rotary_emb)(model.config)
    model.model.rotary_emb = rotary.to(device)


@torch.no_grad()
def _fill(model: LlamaForCausalLM, seed: int) -> None:
    """Norm weights (the only vectors of this family) are 1, matrices are normal; in place, one tensor at a time."""
    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, WEIGHT_STD, generator=generator)
