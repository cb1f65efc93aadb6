"""What was asked of a load and what is really there, read off the model: the difference is the row's evidence.

Why: a library may fall back without a word (a layer that cannot be quantized stays dense, a kernel is replaced, a dtype
is widened), and the figure that follows is of something else than its label.

    mismatches(model, Request("int8", ("Linear8bitLt",), torch.float16))    # ('... found 3 Linear of 210',)
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Request:
    """What a backend promises for a quantization: the class of every linear layer but the head, and the dtype.

    `details` is what the backend says of the weights that it loaded (bits, group size, kernel ...).
    """

    quantization: str
    linear_classes: tuple[str, ...]
    dtype: torch.dtype
    details: Mapping[str, str] = field(default_factory=dict)


def linear_classes(model: nn.Module) -> dict[str, int]:
    """How many layers of each linear class the model holds, the head included."""
    return dict(Counter(class_of(module) for module in model.modules() if is_linear(module)))


def class_of(linear: nn.Module) -> str:
    """`Linear4bit`; `Linear[Int8Tensor]` where the layer is the usual one and its weight a tensor of another kind.

    torchao works that way: the class of the layer alone would look like 16 bit.
    """
    weight = getattr(linear, "weight", None)
    wraps = hasattr(weight, "__tensor_flatten__")
    return f"{type(linear).__name__}[{type(weight).__name__}]" if wraps else type(linear).__name__


def is_linear(module: nn.Module) -> bool:
    """By its interface, since quantized layers need not derive from nn.Linear; Conv1D is GPT-2's name for one."""
    return (hasattr(module, "in_features") and hasattr(module, "out_features")) or type(module).__name__ == "Conv1D"


def parameter_dtypes(model: nn.Module) -> dict[str, int]:
    """Elements by dtype; 4-bit weights are packed, two in an element of uint8."""
    count: Counter[str] = Counter()
    for parameter in model.parameters():
        count[dtype_name(parameter.dtype)] += parameter.numel()
    return dict(count)


def mismatches(model: Any, request: Request) -> tuple[str, ...]:
    """Where the model is not what was requested; empty when it is."""
    return tuple(found for found in (_wrong_layers(model, request), _wrong_dtype(model, request)) if found)


def _wrong_layers(model: Any, request: Request) -> str | None:
    head = model.get_output_embeddings()
    layers = [class_of(m) for m in model.modules() if is_linear(m) and m is not head]
    wrong = Counter(name for name in layers if name not in request.linear_classes)
    if not wrong:
        return None
    found = ", ".join(f"{count} {name}" for name, count in sorted(wrong.items()))
    return (
        f"asked {request.quantization} for {' or '.join(request.linear_classes)} layers, found {found} of {len(layers)}"
    )


def _wrong_dtype(model: Any, request: Request) -> str | None:
    """Of the embeddings: no backend quantizes them, so their dtype is that of everything left dense."""
    found = model.get_input_embeddings().weight.dtype
    if found == request.dtype:
        return None
    asked = f"asked {request.quantization} for {dtype_name(request.dtype)} beside the linear layers"
    return f"{asked}, found {dtype_name(found)}"


def dtype_name(dtype: torch.dtype) -> str:
    """`float16`."""
    return str(dtype).removeprefix("torch.")
