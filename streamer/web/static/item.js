// One item: what it is, who takes it, what is like it, and whether it is shown.
import { api, path } from "./api.js";
import { card, date, figures, h, heading, itemLink, number, userLink } from "./dom.js";

export const title = "an item";
const SHOWN = 8, PATIENCE = 20;

export async function show(main, id, signal) {
  const name = heading("Item ", id), known = h("div", { id: "known" }, h("p", { class: "soft" }, "asking …")), said = h("p", { role: "status", id: "said" });
  const related = [["similar", "Like it", "Nothing like it is known yet."], ["together", "Taken together with it", "It was taken with nothing else yet."], ["users", "Who should hear of it", "Nobody was active lately who has not had it."]];
  const cards = related.map(([, text]) => ({ text, list: h("ul", {}) }));
  const hide = h("button", { type: "button", id: "hide", hidden: true });
  main.append(name, h("div", { class: "grid two" }, card("What is known", known, h("p", {}), hide, said), h("div", { class: "column" }, cards.map(one => card(one.text, one.list)))));
  const load = () => api(path`/v1/items/${id}`, { signal });
  function draw(told) {
    const hidden = told.status !== "listed", attributes = Object.entries(told.attributes);
    if (told.title) { name.textContent = told.title; document.title = `Freshet: ${told.title}`; }
    known.replaceChildren(
      h("p", {}, `Item ${told.item_id}. `, hidden ? h("strong", { class: "bad" }, "Hidden: it is in no list, and keeps its history.") : ""),
      figures([["interactions", number(told.interactions)], ["published lists it is in", number(told.lists)]]),
      h("p", { class: "soft" }, `First seen ${date(told.first_seen)}, last interaction ${date(told.last_interaction)}.`),
      attributes.length ? h("table", { class: "words" }, h("tbody", {}, attributes.map(([key, value]) => h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, Array.isArray(value) ? value.join(", ") : typeof value === "string" ? value : JSON.stringify(value)))))) : h("p", { class: "soft" }, "No attributes."));
    hide.hidden = false;
    hide.textContent = hidden ? "Show it again" : "Hide it from every list";
    hide.onclick = () => change(!hidden);
  }
  async function change(hidden) {
    hide.disabled = true;
    said.textContent = "sent …";
    try {
      await api(path`/v1/items/${id}`, { method: "PATCH", body: { hidden } });
      for (let n = 0; n < PATIENCE; n++) {
        const told = await load();
        if ((told.status === "hidden") === hidden) {
          draw(told);
          said.textContent = hidden ? "Hidden." : "It may be listed again.";
          return;
        }
        await new Promise(done => setTimeout(done, 500));
      }
      said.textContent = "It is in the log; the worker has not taken it yet.";
    } catch (error) {
      if (error.name !== "AbortError") said.textContent = error.message;
    } finally { hide.disabled = false; }
  }
  try {
    draw(await load());
  } catch (error) {
    if (!error.status) throw error;
    known.replaceChildren(h("p", {}, error.code === "unknown-item" ? "Nothing is known of this item: no record, no interaction." : `What is known of items is known to a worker, and none answers: ${error.message}`));
    for (const { list } of cards) list.closest("section").hidden = true;
    return;
  }
  await Promise.all(related.map(async ([kind, , nothing], n) => {
    try {
      const query = kind === "users" ? `?k=${SHOWN}` : `?k=${SHOWN}&fields=title`;
      const told = await api(path`/v1/items/${id}/${kind}` + query, { signal });
      const rows = kind === "users" ? told.users.map(one => userLink(one.user_id)) : told.items.map(one => itemLink(one.item_id, one.title));
      cards[n].list.append(...(rows.length ? rows.map(row => h("li", {}, row)) : [h("li", { class: "soft" }, nothing)]));
    } catch (error) {
      if (error.name !== "AbortError") cards[n].list.append(h("li", { class: "soft" }, error.message));
    }
  }));
}
