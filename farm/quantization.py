"""A quantization as a sweep names it, parsed once: a precision of the catalog, and options where it has any.

    >>> parse_quantization("gptq?kernel=triton&group_size=64")
    Quantization(name='gptq', options=(('group_size', '64'), ('kernel', 'triton')))
    >>> str(parse_quantization("gptq?group_size=128"))    # a default is left out: one configuration, one name
    'gptq'

The canonical text is what a cell holds, so that a new option with a default changes no key.
"""

import functools
from dataclasses import dataclass

from farm.catalog import PRECISIONS, Precision
from farm.errors import SweepError, unknown


@dataclass(frozen=True, slots=True)
class Quantization:
    """`options` are all that the precision has, in the catalog's order, defaults filled in."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def precision(self) -> Precision:
        return PRECISIONS[self.name]

    def __getitem__(self, option: str) -> str:
        """The value of one of its precision's options. Raises KeyError for an option that it does not have."""
        return dict(self.options)[option]

    @property
    def group_size(self) -> int | None:
        """How many weights of a row share a scale; None where that is a whole row, or no option."""
        size = dict(self.options).get("group_size")
        return int(size) if size and size != "-1" else None

    @property
    def checkpoint(self) -> "Quantization | None":
        """Whose checkpoint it loads: kernels share one, and so do a legacy backend and its successor."""
        maker = self.precision.checkpoint
        if maker is None:
            return None
        kept = "&".join(f"{name}={value}" for name, value in self.options if name != "kernel")
        return parse_quantization(f"{maker}?{kept}")

    @property
    def linear_bits(self) -> float:
        """Bits a weight of the linear layers, scales and zero points included."""
        return self.precision.bits(dict(self.options))

    @property
    def other_bits(self) -> int:
        return self.precision.other_bits

    @property
    def report_key(self) -> str | None:
        """The mission's column."""
        return self.precision.report_key

    @property
    def title(self) -> str:
        """For people: `GPTQ (kernel triton)`."""
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self._not_default())
        return f"{self.precision.title} ({told})" if told else self.precision.title

    def _not_default(self) -> list[tuple[str, str]]:
        defaults = {option.name: option.default for option in self.precision.options}
        return [(name, value) for name, value in self.options if value != defaults[name]]

    def __str__(self) -> str:
        told = "&".join(f"{name}={value}" for name, value in self._not_default())
        return f"{self.name}?{told}" if told else self.name


@functools.cache
def parse_quantization(text: str, where: str = "") -> Quantization:
    """Parse one entry of `quantizations:`. Raises SweepError with the valid precisions, options or values."""
    name, _, query = text.partition("?")
    if name not in PRECISIONS:
        raise SweepError(unknown("quantization", name, PRECISIONS, where))
    precision = PRECISIONS[name]
    given = dict(_option(part, text) for part in query.split("&") if part)
    valid = {option.name: option for option in precision.options}
    for key, value in given.items():
        if key not in valid:
            raise SweepError(f"{unknown('option', key, valid or ['none at all'], where or text)}")
        if value not in valid[key].choices:
            raise SweepError(unknown(key, value, valid[key].choices, where or text))
    return Quantization(name, tuple((key, given.get(key, option.default)) for key, option in valid.items()))


def _option(part: str, text: str) -> tuple[str, str]:
    key, equals, value = part.partition("=")
    if not equals:
        raise SweepError(f"{text!r}: an option is written name=value, for example gptq?group_size=64&kernel=triton")
    return key, value
