"use strict";

function write(box, text) {
  if (box.textContent === text) return;
  box.textContent = text;
  box.parentNode.scrollTop = box.parentNode.scrollHeight;
}

// What a page does by itself: play two shown generations again, and say so when the dashboard does not answer.
window.dash_clientside = Object.assign({}, window.dash_clientside, {
  farm: {
    // Both at once and at true speed: each piece appears at the second at which it came when it was generated.
    play(clicks, streams) {
      const boxes = [document.getElementById("again-a"), document.getElementById("again-b")];
      const began = performance.now();
      window.farmPlaying = (window.farmPlaying || 0) + 1;
      const turn = window.farmPlaying;
      boxes.forEach((box) => box && box.parentNode.classList.add("playing"));
      function frame() {
        if (turn !== window.farmPlaying) return;
        const second = (performance.now() - began) / 1000;
        let left = false;
        streams.forEach((stream, place) => {
          const box = boxes[place];
          if (!box || !box.isConnected) return;
          const there = stream.pieces.filter(([at]) => at <= second);
          const text = there.map(([, piece]) => piece).join("");
          write(box, text);
          const waits = there.length < stream.pieces.length;
          box.parentNode.classList.toggle("writing", waits);
          left = left || waits;
        });
        if (left) requestAnimationFrame(frame);
      }
      requestAnimationFrame(frame);
      return String(clicks);
    },
  },
});

// A run goes on without its dashboard, but what the page shows is then old.
setInterval(async () => {
  const lost = document.getElementById("lost");
  if (!lost || document.hidden) return;
  try {
    const answer = await fetch("/_favicon.ico", { method: "HEAD", cache: "no-store" });
    lost.hidden = answer.status < 500;
  } catch {
    lost.hidden = false;
  }
}, 5000);

// The newest token stays in sight.
new MutationObserver((changes) => {
  for (const change of changes) {
    const box = change.target.parentElement && change.target.parentElement.closest(".stream.writing");
    if (box) box.scrollTop = box.scrollHeight;
  }
}).observe(document.documentElement, { subtree: true, characterData: true, childList: true });

// The demo: scenes that turn by themselves, by buttons and by the arrow keys. `?play=1` begins at once, `?pace=4` is
// four times as fast (for tests).
(function () {
  let scene = 0, began = 0, spent = 0, playing = false, known = null;
  const pace = Math.min(50, Math.max(1, Number(new URLSearchParams(location.search).get("pace")) || 1));
  const stages = () => [...document.querySelectorAll("#stages .stage")];
  const second = () => spent + (playing ? ((performance.now() - began) / 1000) * pace : 0);

  function show(next) {
    scene = Math.max(0, Math.min(next, stages().length - 1));
    spent = 0;
    began = performance.now();
    stages().forEach((stage, place) => stage.classList.toggle("on", place === scene));
    document.querySelectorAll(".dots .dot").forEach((dot, place) => dot.classList.toggle("on", place <= scene));
    window.dispatchEvent(new Event("resize")); // figures drawn while hidden take their size now
    draw();
  }

  function play(wanted) {
    spent = second();
    began = performance.now();
    playing = wanted;
    const button = document.getElementById("demo-play");
    button.textContent = playing ? button.dataset.pause : button.dataset.play;
    if (playing) tick();
  }

  // One sentence at a time, as under a film; the generation at its own speed.
  function draw() {
    const stage = stages()[scene];
    const whole = Number(stage.dataset.seconds), at = second();
    const still = !playing && at === 0; // somebody turns the scenes by hand: everything is there at once
    const sentences = [...stage.querySelectorAll(".captions p")];
    const letters = sentences.map((one) => one.textContent.length);
    const all = letters.reduce((sum, one) => sum + one, 0) || 1;
    let before = 0, begun = 0;
    sentences.forEach((one, place) => {
      const isSaid = still || at >= (0.85 * whole * before) / all;
      one.classList.toggle("said", isSaid);
      if (isSaid) begun = place;
      before += letters[place];
    });
    stage.classList.toggle("still", still);
    sentences.forEach((one, place) => one.classList.toggle("now", place === begun));
    for (const box of stage.querySelectorAll(".shot")) {
      const pieces = JSON.parse(box.dataset.pieces);
      const there = still ? pieces : pieces.filter(([when]) => when <= at);
      const text = there.map(([, piece]) => piece).join("");
      write(box, text);
    }
  }

  function tick() {
    if (!playing || !known || !known.isConnected) return;
    draw();
    if (second() >= Number(stages()[scene].dataset.seconds)) {
      if (scene === stages().length - 1) {
        play(false);
        document.body.dataset.demo = "done";
        return;
      }
      show(scene + 1);
    }
    requestAnimationFrame(tick);
  }

  function start(page) {
    known = page;
    document.getElementById("demo-back").addEventListener("click", () => show(scene - 1));
    document.getElementById("demo-next").addEventListener("click", () => show(scene + 1));
    document.getElementById("demo-play").addEventListener("click", () => play(!playing));
    show(0);
    document.body.dataset.demo = "ready";
    if (new URLSearchParams(location.search).get("play")) play(true);
  }

  document.addEventListener("keydown", (event) => {
    if (!known || !known.isConnected || event.target.closest("input, .frame")) return;
    if (event.key === "ArrowRight") show(scene + 1);
    if (event.key === "ArrowLeft") show(scene - 1);
  });
  window.farmDemo = { play: () => play(true) };
  new MutationObserver(() => {
    const page = document.getElementById("demo");
    if (page && page !== known) start(page);
  }).observe(document.documentElement, { subtree: true, childList: true });
})();
