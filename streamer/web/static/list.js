// One user's list as it is published, best first, with the places that items moved.
import { api, path, root } from "./api.js";
import { duration, h, itemLink } from "./dom.js";

const PLACES = 10, still = matchMedia("(prefers-reduced-motion: reduce)").matches;

export function listView(user, { onList, why = false, signal, about }) {
  const list = h("ol", { class: "list", id: "list" });
  let before = [];
  const rows = new Map(); // item → its row: an open explanation and the focus outlive the next list
  function draw(told) {
    const old = new Map([...list.children].map(li => [li.dataset.id, li.getBoundingClientRect().top])), focused = document.activeElement;
    const items = told.items.slice(0, PLACES), ids = new Set(items.map(item => item.item_id));
    for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
    list.replaceChildren(...items.map((item, n) => {
      if (!rows.has(item.item_id)) rows.set(item.item_id, makeRow(item, why ? user : null, signal));
      const row = rows.get(item.item_id);
      row.update(n, item, moved(item.item_id, n, before));
      return row.li;
    }));
    if (list.contains(focused)) focused.focus({ preventScroll: true });
    if (!still) for (const { li } of rows.values()) {
      const by = (old.get(li.dataset.id) ?? NaN) - li.getBoundingClientRect().top;
      if (by) li.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
    }
    before = told.items.map(item => item.item_id);
    about.textContent = described(told);
    onList?.(told);
  }
  return { list, draw, clear: () => { before = []; rows.clear(); list.replaceChildren(); } };
}

function moved(id, n, before) {
  const was = before.indexOf(id);
  return !before.length || was === n ? "" : was < 0 ? "new" : was > n ? `▲ ${was - n}` : `▼ ${n - was}`;
}

function described(told) {
  const words = { popular: "what is popular", new: "what is new", cohort: "what people like this one take", "similar-items": "items like theirs" };
  const made = told.fallback ? `Too little is known of this user’s taste: this is ${words[told.fallback] ?? told.fallback}.` : "What they would be shown now, best first. ▲▼: places moved since the list before.";
  return told.stale ? `No worker answers: this is the last list that was published${told.age_ms ? `, ${duration(told.age_ms)} ago` : ""}. ${made}` : made;
}

function makeRow(item, user, signal) {
  const told = h("div", { class: "why", hidden: true }), rank = h("span", { class: "rank" }), places = h("span", { class: "moved" }), reason = h("small", {});
  const button = user === null ? null : h("button", { type: "button", class: "small", "aria-expanded": "false", "aria-label": `why? ${item.title || item.item_id}`, onclick: () => {
    told.hidden = !told.hidden;
    button.setAttribute("aria-expanded", String(!told.hidden));
    if (!told.hidden) explain(told, user, item.item_id, signal);
  } }, "why?");
  const li = h("li", { "data-id": item.item_id }, rank, h("div", { class: "title" }, itemLink(item.item_id, item.title), reason), h("span", { class: "end" }, places, button), told);
  return { li, update(n, { reason: words }, by) { rank.textContent = String(n + 1); reason.textContent = words; places.textContent = by; } };
}

async function explain(told, user, item, signal) {
  told.replaceChildren(h("small", { role: "status" }, "asking the worker …"));
  try {
    const found = await api(path`/v1/users/${user}/explanations/${item}`, { signal });
    const check = found.counterfactual;
    const without = check && `Without ${check.without.length === 1 ? "the first of these" : `the first ${check.without.length} of these`} it would ${check.falls ? "fall" : "stay"}${check.place ? `, to place ${check.place} of ${found.candidates}` : " out of the candidates"}.`;
    told.replaceChildren(h("p", {}, found.sentence), h("ul", {}, found.because.map(one => h("li", {}, one.sentence))), without ? h("p", { class: "soft" }, without) : "");
  } catch (error) {
    if (error.name !== "AbortError") told.replaceChildren(h("small", { role: "status" }, `${error.message}`));
  }
}

// The user's lists as they are published; `gone` where there is none any more. A stream that the server ends is opened again.
export function follow(user, { draw, clear }, about, signal) {
  let stream = null;
  function open() {
    stream?.close();
    if (signal.aborted) return;
    stream = new EventSource(root + path`/v1/users/${user}/lists/stream`);
    stream.addEventListener("list", event => draw(JSON.parse(event.data)));
    stream.addEventListener("withdrawn", () => { clear(); about.textContent = "There is no list for this user any more."; });
    stream.onerror = () => { if (stream.readyState === EventSource.CLOSED) setTimeout(open, 3000); };
  }
  signal.addEventListener("abort", () => stream?.close());
  open();
}
