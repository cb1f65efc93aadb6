"""Memory of one shape that a generation has to itself until the next one begins.

Why: a captured or compiled step writes to fixed addresses, so two generations of one shape would answer with each
other's tokens. The one that was overtaken must fail and not go on.

    number = slot.take()
    slot.check(number)      # RuntimeError once another has taken it
"""


class Slot:
    """`generations`: how many have begun here; the last one is current."""

    def __init__(self) -> None:
        self.generations = 0

    def take(self) -> int:
        """Begin a generation; its number is the current one until the next begins."""
        self.generations += 1
        return self.generations

    def check(self, number: int) -> None:
        """Raise RuntimeError when this generation is not the current one."""
        if self.generations != number:
            raise RuntimeError("a later generation of the same shape has taken this one's cache; finish one at a time")
