"use strict";
// The part of a page that says how far runs are is fetched again every two seconds, or fifteen where none goes on; when a run begins
// or ends, the whole page is.
(() => {
  const spot = document.getElementById("live");
  const silent = document.getElementById("silent");
  if (!spot) return;

  const wait = () => setTimeout(look, spot.dataset.going === "0" ? 15000 : 2000);

  async function look() {
    if (document.hidden) return wait();
    try {
      const reply = await fetch(spot.dataset.from, { cache: "no-store" });
      if (reply.status === 401) return location.reload();
      if (!reply.ok) throw new Error(String(reply.status));
      const next = new DOMParser().parseFromString(await reply.text(), "text/html").getElementById("live");
      if (next.dataset.marks !== spot.dataset.marks) return location.reload();
      spot.replaceChildren(...next.childNodes);
      silent.hidden = true;
    } catch {
      silent.hidden = false;
    }
    wait();
  }
  wait();
})();
