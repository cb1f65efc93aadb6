"""Ways to run the captured prompt, for `tests.perf.turbo_variants`: what each is compared with is the first.

`all rows`: the last layer goes on with all positions, as it did before it was cut to those that are read. `cudnn`:
attention by cuDNN where it can, by flash attention elsewhere.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from jobs.turbo import prefill
from jobs.turbo.blocks import run_layers
from jobs.turbo.cache import KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.slots import Prompt
from tests.perf.turbo_outcomes import Answer, Outcome, take_turns

_CUDNN_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


@contextmanager
def all_rows() -> Iterator[None]:
    def run_all(taken: Any, shape: Any, x: Tensor, attend: Any, kept: slice) -> tuple[Tensor, Tensor]:
        x, residual = run_layers(taken, shape, x, attend)
        return x[kept].contiguous(), residual[kept].contiguous()

    with patch.object(prefill, "run_layers", run_all):
        yield


WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "base": nullcontext,
    "all rows": all_rows,
    "cudnn": lambda: sdpa_kernel(_CUDNN_FIRST, set_priority=True),
}


def prefill_outcomes(
    decoder: TurboDecoder, cache: KvCache, context: int, rounds: int, run_time: Callable[[Prompt], float]
) -> list[Outcome]:
    """Of one prompt. The cache is written anew by each."""
    ids = torch.randint(0, 256, (1, context), device=decoder.device)
    made = {name: _made(name, decoder, cache, ids) for name in WAYS}
    prompts = {name: prompt for name, prompt in made.items() if isinstance(prompt, Prompt)}
    outcomes = [Outcome(name, error=None if name in prompts else str(prompt)) for name, prompt in made.items()]
    answers = {name: _answer(prompt, cache, context) for name, prompt in prompts.items()}
    tolerance = 16 * torch.finfo(decoder.dtype).eps
    for outcome in outcomes:
        if outcome.error is None and "base" in answers:
            outcome.compare(answers[outcome.name], answers["base"], tolerance)
    take_turns(outcomes, {name: partial(run_time, prompt) for name, prompt in prompts.items()}, rounds)
    return outcomes


def _made(name: str, decoder: TurboDecoder, cache: KvCache, ids: Tensor) -> Prompt | str:
    """Its captured graph, or why there is none. The others go on whatever happens here, hence the broad catch."""
    try:
        with WAYS[name]():
            prompt = Prompt(decoder, cache, 1, ids.shape[1])
        prompt.ids.copy_(ids)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return prompt


def _answer(prompt: Prompt, cache: KvCache, context: int) -> Answer:
    prompt.graph.run()
    last = (each[:, :, :, context - 1] for each in (cache.keys, cache.values))
    return Answer(tuple(each.float().clone() for each in (prompt.logits, *last)))
