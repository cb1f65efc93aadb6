"""The demo as a film: a headless browser plays the page, ffmpeg makes an MP4 of what it shows, captions included.

Why the browser's own screencast and not Playwright's video: that needs a second ffmpeg of Playwright's own, where the
system's chromium and ffmpeg are enough for this. A frame is told when something changes, with the moment it was drawn.

    record_demo(Library(Path("runs/demo")), Path("demo.mp4"), "es")
"""

import base64
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.errors import FarmError
from farm.present.dashboard.app import make_app
from farm.present.dashboard.demo import scenes_in
from farm.present.dashboard.launching import Launcher
from farm.present.dashboard.library import Library
from farm.present.dashboard.scenes import Scene
from farm.present.dashboard.serving import open_server
from farm.present.dashboard.settings import Settings

WIDTH, HEIGHT = 1280, 900
READY_S = 60.0
SAID_BY = 0.85  # of a scene: as in the page's script, its last sentence has begun by then
LAST_FRAME_S = 1.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture, and the browser's clock when it was drawn."""

    file: Path
    at_s: float


def record_demo(library: Library, out: Path, language: str, pace: float = 1.0) -> Path:
    """Play the run's demo once and keep it as `out`. Raises FarmError in one sentence for whatever is missing."""
    browser, ffmpeg = needed_programs(out)
    run = demo_run(library)
    film = scenes_in(library.reader(run), language)
    with tempfile.TemporaryDirectory() as scratch, _served(library, language) as base:
        address = f"{base}demo?run={run}&lang={language}&pace={pace:g}"
        frames = _play(browser, address, Path(scratch), sum(scene.seconds for scene in film) / pace)
        captions = Path(scratch) / "captions.srt"
        captions.write_text(captions_of(film, pace), encoding="utf-8")
        return _encode(ffmpeg, frames, captions, language, out)


def demo_run(library: Library) -> str:
    """The run that was asked for, or the one that changed last. Raises FarmError."""
    names = library.sweeps() or library.names()
    if not names:
        raise FarmError(f"{library.home}: no run here to tell of; start one with `farm run jobs/sweeps/demo.yaml`")
    if not library.reader(names[0]).look().records:
        raise FarmError(f"{library.home / names[0]}: no cell has ended yet, so there is nothing to tell")
    return names[0]


def needed_programs(out: Path) -> tuple[str, str]:
    """The browser and ffmpeg. Raises FarmError for the first thing that is missing."""
    if out.suffix != ".mp4":
        raise FarmError(f"--record {out}: the film is an MP4; name a file that ends in .mp4")
    if not out.absolute().parent.is_dir():
        raise FarmError(f"--record {out}: there is no folder {out.absolute().parent}")
    browser = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FarmError("--record: no browser is found; install chromium, or set BROWSER_PATH to one")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise FarmError("--record: ffmpeg is not found; install it")
    try:
        import playwright  # noqa: F401
    except ImportError:
        raise FarmError(
            "--record: Playwright is not installed; pip install playwright (no browser of its own)"
        ) from None
    return browser, ffmpeg


@contextmanager
def _served(library: Library, language: str) -> Iterator[str]:
    """The dashboard on a free port of loopback, for as long as the film takes."""
    app = make_app(Settings(library, Launcher(library, "ray", "auto"), (), language))
    server = open_server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        server.shutdown()
        thread.join()


def _play(browser_path: str, address: str, scratch: Path, seconds: float) -> list[Frame]:
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # chromium refuses to be root with one
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=sandbox)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        page.wait_for_selector("body[data-demo='ready']", timeout=1000 * READY_S)
        page.wait_for_selector(".main-svg", state="attached", timeout=1000 * READY_S)
        page.evaluate("window.farmDemo.play()")
        with _screencast(page, scratch) as frames:
            page.wait_for_selector("body[data-demo='done']", timeout=1000 * (2 * seconds + READY_S))
        browser.close()
    return frames


@contextmanager
def _screencast(page: Any, scratch: Path) -> Iterator[list[Frame]]:
    """Every picture that the browser draws, as a file, while the block runs."""
    frames: list[Frame] = []
    session = page.context.new_cdp_session(page)

    def keep(event: dict[str, Any]) -> None:
        file = scratch / f"{len(frames):06d}.jpg"
        file.write_bytes(base64.b64decode(event["data"]))
        frames.append(Frame(file, float(event["metadata"]["timestamp"])))
        session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    session.on("Page.screencastFrame", keep)
    session.send("Page.startScreencast", {"format": "jpeg", "quality": 90})
    yield frames
    session.send("Page.stopScreencast")


def _encode(ffmpeg: str, frames: Sequence[Frame], captions: Path, language: str, out: Path) -> Path:
    """Each frame for as long as it stood; H.264 that every player knows, the captions also as a track of their own."""
    listing, made = captions.with_name("frames.txt"), captions.with_name("film.mp4")
    listing.write_text(frame_list(frames))
    spoken = {"en": "eng", "es": "spa"}[language]
    inputs = ["-f", "concat", "-safe", "0", "-i", str(listing), "-i", str(captions)]
    picture = ["-vf", "fps=25,format=yuv420p", "-c:v", "libx264", "-preset", "veryfast", "-crf", "22"]
    words = ["-c:s", "mov_text", "-metadata:s:s:0", f"language={spoken}", "-movflags", "+faststart"]
    command = [ffmpeg, "-nostdin", "-loglevel", "error", "-y", *inputs, *picture, *words, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FarmError(f"--record: ffmpeg could not make the film ({done.stderr.strip().splitlines()[-1:]})")
    shutil.move(made, out)
    return out


def frame_list(frames: Sequence[Frame]) -> str:
    """For ffmpeg's concat: a frame stands until the next one; the last is named twice, or its time would be lost."""
    if not frames:
        raise FarmError("--record: the browser drew nothing; try again, or another browser through BROWSER_PATH")
    ends = [frame.at_s for frame in frames[1:]] + [frames[-1].at_s + LAST_FRAME_S]
    lines = [f"file '{frame.file}'\nduration {end - frame.at_s:.6f}\n" for frame, end in zip(frames, ends, strict=True)]
    return "".join(lines) + f"file '{frames[-1].file}'\n"


def captions_of(film: Sequence[Scene], pace: float = 1.0) -> str:
    """Every sentence at the second at which the page says it, as SubRip."""
    cues, scene_start = [], 0.0
    for scene in film:
        letters = [len(sentence) for sentence in scene.sentences]
        starts = [
            SAID_BY * scene.seconds * sum(letters[:place]) / max(1, sum(letters)) for place in range(len(letters))
        ]
        ends = [*starts[1:], scene.seconds]
        cues += [
            (scene_start + start, scene_start + end, sentence)
            for start, end, sentence in zip(starts, ends, scene.sentences, strict=True)
        ]
        scene_start += scene.seconds
    return "\n".join(
        f"{place}\n{_clock(start / pace)} --> {_clock(end / pace)}\n{sentence}\n"
        for place, (start, end, sentence) in enumerate(cues, 1)
    )


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"
