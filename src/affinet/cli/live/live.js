// Ask for the position of the run every second, and exchange the page for a new one without losing the reader's place.
"use strict";

const INTERVAL = 1000, SPOKEN_EVERY = 30000, MOST_FAILURES = 3;
const byId = name => document.getElementById(name);
const pause = byId("pause");
let frame = null, shown = null, exchanging = null, timer = 0, failures = 0, spokenAt = -Infinity;

pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", paused);
  if (!paused) tick();
});

async function tick() {
  clearTimeout(timer);
  if (pause.getAttribute("aria-pressed") === "true") return;
  let state;
  try {
    state = await (await fetch("/state")).json();
    failures = 0;
  } catch {
    failures += 1;
    if (failures < MOST_FAILURES) later();
    else end("The command has ended, and this page is not refreshed any more.");
    return;
  }
  show(state);
  if (state.over) {
    await exchanging;
    await exchange(state.page);
    end(`${state.sentence} ${state.ending}`);
    return;
  }
  if (state.page !== shown && !document.hidden && !selecting()) exchange(state.page);
  later();
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(tick, INTERVAL);
}

function show(state) {
  byId("sentence").textContent = state.sentence;
  byId("progress").max = Math.max(state.epochs, 1);
  byId("progress").value = state.epoch;
  document.title = state.epochs ? `${state.epoch}/${state.epochs} – affinet: live` : "affinet: live";
  // A screen reader hears the position now and then, not every second.
  if (performance.now() - spokenAt > SPOKEN_EVERY) speak(state.sentence);
}

function speak(sentence) {
  byId("spoken").textContent = sentence;
  spokenAt = performance.now();
}

function end(sentence) {
  byId("sentence").textContent = sentence;
  speak(sentence);
  pause.disabled = true;
}

function selecting() {
  return frame !== null && frame.contentDocument.getSelection().type === "Range";
}

// The new page is loaded behind the old one, and shown when it is complete.
function exchange(version) {
  if (exchanging !== null) return exchanging;
  exchanging = new Promise(resolve => {
    const next = document.createElement("iframe");
    next.title = "Report of the run";
    next.className = "waiting";
    next.setAttribute("sandbox", "allow-same-origin allow-popups");
    next.addEventListener("load", () => {
      const old = frame, focused = old === null ? null : focusedPlace(old);
      if (old !== null) keepPlace(old.contentDocument, next.contentDocument);
      next.className = "";
      if (old !== null) old.remove();
      if (focused !== null) focusAgain(next, focused);
      frame = next;
      shown = version;
      exchanging = null;
      resolve();
    }, { once: true });
    next.src = "/report";
    byId("pages").append(next);
  });
  return exchanging;
}

function keepPlace(old, next) {
  const opened = [...old.querySelectorAll("details")].map(details => details.open);
  [...next.querySelectorAll("details")].forEach((details, k) => { if (k in opened) details.open = opened[k]; });
  next.scrollingElement.scrollTo(old.scrollingElement.scrollLeft, old.scrollingElement.scrollTop);
}

// Where the focus is in a page: the number of each child on the way from the body. Null where it is elsewhere.
function focusedPlace(old) {
  if (document.activeElement !== old) return null;
  const places = [], body = old.contentDocument.body;
  for (let at = old.contentDocument.activeElement; at && at !== body && at.parentElement; at = at.parentElement) {
    places.unshift([...at.parentElement.children].indexOf(at));
  }
  return places;
}

function focusAgain(next, places) {
  next.focus({ preventScroll: true });
  const body = next.contentDocument.body, same = places.reduce((at, place) => at?.children[place], body);
  if (same && same !== body) same.focus({ preventScroll: true });
}

tick();
