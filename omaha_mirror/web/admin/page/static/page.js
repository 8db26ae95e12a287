// Parts of the page renew themselves while it is seen; one that has not changed is answered 304 and left alone.
"use strict";

const LOST_AFTER = 3;
let failures = 0;

function tick(part) {
  if (!document.hidden && document.body.contains(part)) htmx.trigger(part, "tick");
}

for (const part of document.querySelectorAll("[data-every]")) {
  setInterval(() => tick(part), 1000 * part.dataset.every);
}

document.addEventListener("visibilitychange", () => {
  document.querySelectorAll("[data-every]").forEach(tick);
});

document.body.addEventListener("htmx:configRequest", (event) => {
  const part = event.detail.elt;
  if (part.dataset.etag) event.detail.headers["If-None-Match"] = part.dataset.etag;
});

document.body.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr } = event.detail;
  const answered = xhr.status > 0 && xhr.status < 500;
  failures = answered ? 0 : failures + 1;
  document.getElementById("lost").hidden = failures < LOST_AFTER;
  if (elt.dataset.every && xhr.status === 200) elt.dataset.etag = xhr.getResponseHeader("ETag");
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    getSelection().selectAllChildren(source);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      document.execCommand("copy"); // beyond loopback without TLS there is no clipboard
    }
    button.textContent = "Copied";
  });
}
