"""The peer that the turbo engine is timed beside computes the same model, in one compiled piece a layer."""

from functools import partial

import pytest
import torch

from farm.architectures import Architecture
from jobs.engines.turbo import TurboEngine
from jobs.memory import meter_for
from jobs.models.random_weights import build_random
from jobs.prompts import ByteTokenizer
from jobs.stopwatch import stopwatch_for
from jobs.turbo.recipe import Recipe
from tests.perf.turbo_peer import PeerEngine, PlainDecoder

SMALL = Architecture(3, 128, 256, 4, 2, 64, 272, 512, False, 10000.0, 1e-5)
PROMPT = [[1, 7, 42, 99, 3]]


@pytest.mark.parametrize("recipe", [Recipe(), Recipe("int8", "int8"), Recipe("int4", "int8", 64)])
def test_the_peer_makes_the_same_tokens(recipe: Recipe) -> None:
    """Traced in one piece: a break in the graph is an error, and one trace serves all layers."""
    torch._dynamo.reset()
    traces: list[object] = []

    def trace(graph: torch.fx.GraphModule, inputs: object) -> object:
        traces.append(graph)
        return graph.forward

    stopwatch = stopwatch_for("cpu")
    model = partial(build_random, SMALL, torch.float32, "cpu", seed=1)
    compiler = partial(torch.compile, fullgraph=True, dynamic=False, backend=trace)
    peer = PeerEngine(PlainDecoder(model(), recipe, compiler), stopwatch)
    own = TurboEngine(model(), ByteTokenizer(), stopwatch, meter_for("cpu"), recipe)
    answers = []
    for engine in (peer, own):
        generation = engine.begin(PROMPT, "on", 6)
        generation.prefill()
        generation.first_token()
        for _ in range(5):
            generation.decode_step()
        answers.append(generation.tokens())
    assert answers[0] == answers[1]
    assert len(traces) == 2  # a layer, the head
