"""What is read off a model: a layer's class, and the kind of its weight where that is what differs."""

import torch
from torch import nn

from jobs.effective import Request, class_of, linear_classes, mismatches


class Packed(torch.Tensor):
    """Stands for torchao's tensors, which wrap others and leave the layer's class alone."""

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return [], None


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 4)
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def _packed(layer: nn.Linear) -> None:
    data = layer.weight.data.as_subclass(Packed)
    del layer.weight
    layer.weight = data  # type: ignore[assignment]


def test_a_weight_of_another_kind_is_told() -> None:
    model = Model()
    _packed(model.first)
    assert class_of(model.first) == "Linear[Packed]"
    assert linear_classes(model) == {"Linear[Packed]": 1, "Linear": 2}


def test_one_layer_that_was_not_quantized_is_a_mismatch() -> None:
    model = Model()
    _packed(model.first)
    (told,) = mismatches(model, Request("int8wo", ("Linear[Packed]",), torch.float32))
    assert told == "asked int8wo for Linear[Packed] layers, found 1 Linear of 2"
    _packed(model.second)
    assert mismatches(model, Request("int8wo", ("Linear[Packed]",), torch.float32)) == ()


def test_any_of_several_classes_will_do() -> None:
    assert mismatches(Model(), Request("x", ("Other", "Linear"), torch.float32)) == ()
