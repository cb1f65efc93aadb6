"""One generation for people to watch: text and times token by token, before anything of its cell is timed.

Why apart: telling the world about a token takes longer than making it, so nothing is told during a timed trial. Here
the clock stands still while a piece is told, every token is waited for, and no figure of a record comes from it. On a
GPU a token so waited for is a little slower than in the trials, which hand out the next one without looking.

    for piece in show(engine, key, task, prompt): print(piece.text, end="", flush=True)
"""

from collections.abc import Iterator

from farm.cells import SpeedTask
from farm.events import Shown
from jobs.engines.base import Engine, Generation
from jobs.prompts import Prompt, Tokenizer

TELL_EVERY_S = 0.1
HALF_A_CHARACTER = "\ufffd"


def show(engine: Engine, key: str, task: SpeedTask, prompt: Prompt) -> Iterator[Shown]:
    """Generate the task's tokens once from one prompt, whatever its batch. Raises what the engine raises."""
    engine.meter.reset_peak()
    generation = engine.begin([prompt.token_ids], task.cache_mode, task.new_tokens)
    told, gaps = "", []
    first = 0
    for index in range(task.new_tokens):
        gaps.append(_next_token(engine, generation, index))
        is_last = index == task.new_tokens - 1
        if sum(gaps) >= TELL_EVERY_S or index == 0 or is_last:
            text = _text(engine.tokenizer, generation, is_last)
            yield Shown(key, first, text[len(told) :], tuple(gaps), *_bytes(engine, generation))
            told, gaps, first = text, [], index + 1


def _next_token(engine: Engine, generation: Generation, index: int) -> float:
    watch = engine.stopwatch
    watch.synchronize()
    start = watch.now()
    if index == 0:
        generation.prefill()
        generation.first_token()
    else:
        generation.decode_step()
    watch.synchronize()
    return watch.now() - start


def _text(tokenizer: Tokenizer, generation: Generation, is_last: bool) -> str:
    """All of it so far; a character of which only some bytes are there yet waits for the rest."""
    text = str(tokenizer.decode([int(token) for token in generation.tokens()[0]]))
    return text if is_last else text.rstrip(HALF_A_CHARACTER)


def _bytes(engine: Engine, generation: Generation) -> tuple[int, int | None, int | None]:
    return engine.weights_bytes, generation.kv_bytes(), engine.meter.read().peak_allocated_bytes
