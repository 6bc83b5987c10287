// Keeps a page up to date: after a hint, and now and then, it is read again and what has changed
// is put in place. Without this script every page works, and shows what was so when it was opened.
"use strict";

const POLL_MS = 5000;
const REST = 10; // a page that takes long to read is read less often: after so many times as long

let due = 0; // the earliest time of the next reading
let timer = null;
let reading = false;
let on = true;

function busy(section) {
  const active = document.activeElement;
  const typing = active && section.contains(active) && active.matches("input, select, textarea");
  const selection = document.getSelection();
  const selecting = selection && !selection.isCollapsed && section.contains(selection.anchorNode);
  return typing || selecting;
}

function place(node) {
  return node.getAttribute("href") || node.getAttribute("aria-label") || node.textContent;
}

function replace(section, fresh) {
  if (section.innerHTML === fresh.innerHTML || busy(section)) return;
  const open = [...section.querySelectorAll("details")].map((one) => one.open);
  const scrolled = [...section.querySelectorAll(".canvas, .scroll, pre")].map((one) => [one.scrollLeft, one.scrollTop]);
  const active = section.contains(document.activeElement) ? document.activeElement : null;
  const node = document.adoptNode(fresh);
  section.replaceWith(node);
  node.querySelectorAll("details").forEach((one, at) => { if (at < open.length) one.open = open[at]; });
  node.querySelectorAll(".canvas, .scroll, pre").forEach((one, at) => {
    if (at < scrolled.length) [one.scrollLeft, one.scrollTop] = scrolled[at];
  });
  if (active) {
    const same = [...node.querySelectorAll(active.tagName)].find((one) => place(one) === place(active));
    if (same) same.focus({ preventScroll: true });
  }
}

function update(fresh) {
  const sections = [...fresh.querySelectorAll("main section[data-live]")];
  const ids = new Set(sections.map((section) => section.id));
  for (const section of document.querySelectorAll("main section[data-live]")) {
    if (!ids.has(section.id)) section.remove();
  }
  let last = null;
  for (const found of sections) {
    const section = document.getElementById(found.id);
    if (section) replace(section, found);
    else if (last) last.after(document.adoptNode(found));
    last = document.getElementById(found.id);
  }
}

async function read() {
  timer = null;
  if (reading || document.hidden || !on) return;
  reading = true;
  const began = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = fresh.title;
      update(fresh);
      say("live");
    } else {
      say(`not live: ${answer.status}`);
    }
  } catch {
    say("not live: the console does not answer");
  }
  reading = false;
  due = performance.now() + Math.max(1000, REST * (performance.now() - began));
  plan(POLL_MS);
}

function plan(ms) {
  if (timer !== null) clearTimeout(timer);
  timer = setTimeout(read, Math.max(ms, due - performance.now()));
}

function say(text) {
  const button = document.querySelector("button.live");
  if (button) button.textContent = on ? text : "paused";
}

function button() {
  const made = document.createElement("button");
  made.className = "live";
  made.type = "button";
  made.title = "Whether this page is kept up to date";
  made.setAttribute("aria-pressed", "true");
  made.textContent = "live";
  made.addEventListener("click", () => {
    on = !on;
    made.setAttribute("aria-pressed", String(on));
    say("live");
    if (on) plan(0);
  });
  document.querySelector(".top").append(made);
}

async function load(section) {
  // What takes long to read comes after the rest of the page.
  section.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(section.dataset.load, { redirect: "error" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    section.replaceWith(...[...fresh.querySelectorAll("main section:not(#head)")].map((one) => {
      one.removeAttribute("data-live"); // it is read again with the page only
      return document.adoptNode(one);
    }));
  } finally {
    section.removeAttribute("aria-busy");
  }
}

function showRoot() {
  // The first root cause, or the step looked at, is in view.
  const node = document.querySelector("svg .node.focus .box") || document.querySelector("svg .node.root .box");
  const canvas = node && node.closest(".canvas");
  if (!canvas) return;
  canvas.scrollLeft = node.x.baseVal.value - canvas.clientWidth / 2 + 92;
  canvas.scrollTop = node.y.baseVal.value - canvas.clientHeight / 2 + 23;
}

showRoot();
document.querySelectorAll("[data-load]").forEach(load);
if (document.body.dataset.live) {
  button();
  const hints = new EventSource(document.body.dataset.live);
  hints.addEventListener("changed", () => plan(0));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) plan(0); });
  plan(POLL_MS);
}
