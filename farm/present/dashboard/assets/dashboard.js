"use strict";

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
          if (box.textContent !== text) { box.textContent = text; box.parentNode.scrollTop = box.parentNode.scrollHeight; }
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
