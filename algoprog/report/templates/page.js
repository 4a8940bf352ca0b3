"use strict";
// Unpacking, downloads of printed figures, and reloading while a sweep runs.
const algoprog = {
  // Bytes of what is kept as gzip in base64.
  async unpack(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  },
};
(function () {
  const files = JSON.parse(document.getElementById("files").textContent);
  const kinds = { svg: "image/svg+xml", csv: "text/csv;charset=utf-8" };

  async function save(name) {
    const file = new Blob([await algoprog.unpack(files[name])], { type: kinds[name.split(".").pop()] });
    const url = URL.createObjectURL(file);
    Object.assign(document.createElement("a"), { download: name, href: url }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  }

  document.querySelectorAll("figure .downloads").forEach((line) => {
    const link = line.querySelector("a[data-png]");
    link.href = line.closest("figure").querySelector("img").src;
    line.querySelectorAll("button").forEach((button) => {
      button.addEventListener("click", () => save(button.dataset.file));
    });
    line.hidden = false;
  });
  addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((part) => { part.open = true; }); });

  const seconds = Number(document.documentElement.dataset.reload);
  if (!seconds) return;
  // Not while somebody uses the page.
  let used = 0;
  ["input", "keydown", "pointerdown", "wheel"].forEach((kind) => {
    addEventListener(kind, () => { used = Date.now(); }, { passive: true });
  });
  setInterval(() => { if (Date.now() - used > 1000 * seconds) location.reload(); }, 1000 * seconds);
})();
