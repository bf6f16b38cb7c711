"use strict";
/* The plotting library lies packed in the page. Its text is named by the page's policy like any other script. */

async function unpackLibrary() {
  const packed = Uint8Array.from(atob(byId("library").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(el("script", {}, await new Response(stream).text()));
}
