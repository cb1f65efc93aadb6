"""What a sweep, a model, a record or an error message from anybody cannot do. docs/security.md tells the whole."""

import ast
import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import StoreError, SweepError, Unsupported
from farm.expand import expand
from farm.model_ref import parse_model
from farm.present.report import write_outputs
from farm.records import Failure, Status, from_json, to_json
from farm.redact import is_secret, redacted
from farm.storage import archive, open_storage
from farm.store import RunFolder
from farm.strict_yaml import MAX_NODES
from farm.sweep import MAX_YAML_BYTES, load_sweep, parse_sweep
from jobs.failures import classify
from jobs.models.sources import locate
from tests.unit.records import record
from tests.unit.sweeps import cells, sweep

SOURCES = [file for top in ("farm", "jobs", "cluster") for file in Path(top).rglob("*.py")]
TOKEN = "hf_" + "Ab12" * 9


def _calls(file: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]


def _options(call: ast.Call) -> dict[str, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}


def test_nothing_is_unpickled_and_nothing_goes_to_a_shell() -> None:
    for file in SOURCES:
        names = {alias.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import)
                 for alias in node.names}  # fmt: skip
        assert not names & {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}, file
        for call in _calls(file):
            called = ast.unparse(call.func)
            assert called not in ("os.system", "os.popen", "eval", "exec", "yaml.unsafe_load", "yaml.full_load"), file
            assert _options(call).get("shell", "False") == "False", file
            assert called != "torch.load" or _options(call).get("weights_only") == "True", file
            assert called != "yaml.load" or _options(call)["Loader"] == "_Strict", file


def test_remote_code_is_only_the_sweeps_word() -> None:
    """Wherever a library can be told to run a model's own Python, it is told what the sweep says of this model."""
    found = [_options(call)["trust_remote_code"] for file in SOURCES for call in _calls(file)
             if "trust_remote_code" in _options(call)]  # fmt: skip
    assert len(found) >= 4
    assert set(found) <= {"load.trust_remote_code", "point['model'] in sweep.trust_remote_code"}
    several = sweep(models=["fake:steady", "fake:slow"], trust_remote_code=["fake:slow"])
    trusted = {cell.load.model.name for cell in expand(several, "cpu") if cell.load.trust_remote_code}
    assert trusted == {"slow"}
    assert not any(cell.load.trust_remote_code for cell in cells())


def test_pickled_weights_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "it ran",))

    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(Unsupported, match="pickled weights are refused"):
        locate(parse_model(str(model)))
    assert not (tmp_path / "it ran").exists()


GOOD = "name: x\nmodels: [fake:steady]\nquantizations: [int8]\n"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: !!python/object/apply:os.system ['touch x']", "could not determine a constructor"),
        (BOMB, f"its aliases make more than {MAX_NODES:,} entries"),
        ("name: &a [*a]", "its aliases make more than"),
        ("? [1, 2]\n: 3", "unhashable"),
        ("[" * 20_000, "nested too deeply"),
        ("runs: " + "9" * 5000, "Exceeds the limit"),
        ("name: 2020-99-99", "month must be in"),
        (GOOD + "runtime_env: {int8: {py_executable: '/bin/python; touch x'}}", "should match pattern"),
        (GOOD + "runtime_env: {int8: {env_vars: {'A;B': x}}}", "should match pattern"),
        (GOOD + "runtime_env: {int8: {env_vars: {HF_TOKEN: x}}}", "HF_TOKEN looks like a secret"),
        ("name: ../../etc", "should match pattern"),
    ],
)
def test_a_sweep_from_anybody_is_read_as_data_or_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(SweepError, match=sentence) as caught:
        parse_sweep(text)
    assert len(str(caught.value)) < 2000


def test_a_huge_sweep_file_is_not_even_read(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("#" * (MAX_YAML_BYTES + 1))
    with pytest.raises(SweepError, match="larger than"):
        load_sweep(file)


def test_a_record_stays_in_its_folder(tmp_path: Path) -> None:
    evil = replace(record(cells()[0]), key="../../evil")
    with pytest.raises(StoreError, match="no cell key"):
        RunFolder(tmp_path / "run").write(evil)
    assert not list(tmp_path.rglob("*.json"))


def test_an_archive_writes_nothing_and_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for name in ("../evil", "/evil", "run.json"):
            about = tarfile.TarInfo(name)
            about.size = 2
            tar.addfile(about, io.BytesIO(b"{}"))
    before = set(tmp_path.parent.rglob("*"))
    assert open_storage(file).files("records") == []
    assert set(tmp_path.parent.rglob("*")) == before
    monkeypatch.setattr(archive, "MAX_BYTES", 5)
    with pytest.raises(StoreError, match="no archive of a run"):
        open_storage(file)


@pytest.mark.parametrize("name", ["HF_TOKEN", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "X_API_KEY"])
def test_secrets_by_name(name: str) -> None:
    assert is_secret(name)
    assert (
        redacted("it said swordfish-1234 twice: swordfish-1234", {name: "swordfish-1234"}) == "it said *** twice: ***"
    )


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "RAY_AUTH_TOKEN_PATH", "AWS_ACCESS_KEY_ID", "MONKEY"])
def test_no_secrets_by_name(name: str) -> None:
    assert not is_secret(name)
    assert redacted("a long value", {name: "a long value"}) == "a long value"


def test_secrets_by_shape() -> None:
    text = f"{TOKEN}, Authorization: Bearer abc.def-123, s3://me:hunter22@host/x, hf_hub and hf:org/hf_model stay"
    assert redacted(text, {}) == "***, Authorization: ***, s3://***@host/x, hf_hub and hf:org/hf_model stay"


def test_json_stays_json_and_a_secret_in_it_goes() -> None:
    secret = 'quo"te\\and more'
    text = json.dumps({"a": f"x {secret} y", "b": "Bearer 12345678"})
    assert json.loads(redacted(text, {"A_SECRET": secret})) == {"a": "x *** y", "b": "***"}


def test_no_secret_reaches_records_log_or_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever wrote the message: the worker takes it out, and the store once more."""
    monkeypatch.setenv("HF_TOKEN", "swordfish-1234")
    said = f"401 from https://me:hunter22@hub: {TOKEN} / swordfish-1234"
    status, failure = classify(RuntimeError(said))
    assert "***" in failure.message
    folder = RunFolder(tmp_path / "run")
    raw = record(cells()[0], Status.ERROR)
    folder.write(replace(raw, failure=Failure(said, "RuntimeError", f"Traceback: {said}")))
    folder.log_event(at="now", what="note", text=said)
    (kept,) = folder.read()
    write_outputs([kept], tmp_path / "run", images=False, allow_fake=True)
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            text = file.read_text(errors="replace")
            assert not [word for word in (TOKEN, "swordfish", "hunter22") if word in text], file
    assert status is Status.ERROR
    assert from_json(to_json(kept)) == kept
