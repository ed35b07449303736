// One user: what is known, the list, why, and what an interaction or a filter would change.
import { access, api, path } from "./api.js";
import { card, command, curl, date, field, h, heading, itemLink, number } from "./dom.js";
import { follow, listView } from "./list.js";

export const title = "a user";
const LAST = 15; // interactions that are shown

export async function show(main, user, signal) {
  const known = h("div", { id: "known" }, h("p", { class: "soft" }, "asking …")), about = h("p", { class: "soft", id: "about", role: "status" }, "Waiting for the first list …");
  const events = eventForm(user, () => setTimeout(refresh, 1000)), view = listView(user, { about, signal, why: true, onList: told => events.suggest(told.items) });
  let leaving = null; // of the published lists, while a filter is tried
  function published() {
    leaving?.abort();
    leaving = new AbortController();
    view.clear();
    follow(user, { draw: told => { shown = true; view.draw(told); }, clear: view.clear }, about, leaving.signal);
  }
  let shown = false;
  signal.addEventListener("abort", () => leaving?.abort());
  async function ask(filter) {
    leaving?.abort();
    const query = new URLSearchParams({ k: 10, fields: "title", ...(filter ? { filter } : {}) });
    const told = await api(path`/v1/users/${user}/recommendations` + `?${query}`, { signal });
    view.clear();
    view.draw({ ...told, items: told.items.map(item => ({ ...item, title: item.title ?? item.item_id })) });
    if (!told.items.length) about.textContent = "No item passes.";
    else if (filter) about.textContent = `The ten best of what passes the filter. ${about.textContent}`;
  }
  main.append(heading("User ", user),
    h("div", { class: "grid" }, h("div", { class: "column" }, card("What is known", known)), card("The list", about, view.list), h("div", { class: "column" }, events.element, filterForm(ask, published))));

  async function refresh() {
    try {
      drawKnown(known, await api(path`/v1/users/${user}`, { signal }));
      return true;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      const unknown = error.code === "unknown-user";
      known.replaceChildren(
        h("p", { id: "unknown" }, unknown ? `Nothing is known of this user: no interaction, no attributes. The first interaction changes that within a second; send one with the form, or:` : `What is known of users is known to a worker: ${error.message}. Where none runs, start one with the --log or --bootstrap of this server:`),
        command(unknown ? curl("POST", "/v1/interactions", { user_id: user, item_id: "a", event_type: "view" }, access.keyed) : "freshet run --api-port 0"));
      return !unknown;
    }
  }
  published();
  const isKnown = await refresh();
  if (!isKnown && !shown) {
    try { await ask(""); } catch (error) { about.textContent = `There is no list for this user yet: ${error.message}.`; }
    const mine = setInterval(async () => { if (await refresh()) { clearInterval(mine); published(); } }, 2000);
    signal.addEventListener("abort", () => clearInterval(mine));
  } else setTimeout(() => { if (!shown && !signal.aborted && !view.list.children.length) about.textContent = "There is no list for this user yet. It comes with the next interaction that a worker takes."; }, 1500);
}

function drawKnown(place, told) {
  const attributes = Object.entries(told.attributes);
  place.replaceChildren(
    h("p", {}, `${number(told.interactions)} interactions.`),
    attributes.length ? h("table", { class: "words" }, h("tbody", {}, attributes.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, typeof value === "string" ? value : JSON.stringify(value)))))) : h("p", { class: "soft" }, "No attributes."),
    h("h3", {}, "Last interactions"),
    told.last.length ? h("ul", { id: "last" }, told.last.slice(0, LAST).map(one => h("li", {}, itemLink(one.item_id, one.title), h("small", {}, ` ${date(one.timestamp)}, weight ${number(one.weight)}`)))) : h("p", { class: "soft" }, "None yet: send one with the form."));
}

function eventForm(user, onSent) {
  const sent = h("p", { id: "sent", role: "status" }), code = command(""), options = h("datalist", { id: "items" });
  const form = h("form", { id: "act", oninput: write, onsubmit: async event => {
    event.preventDefault();
    const one = body();
    try {
      await api("/v1/interactions", { method: "POST", body: one });
      sent.textContent = `Sent: ${one.event_type} of item ${one.item_id}. The list moves as soon as the worker has taken it.`;
      onSent();
    } catch (error) { sent.textContent = error.message; }
  } }, h("div", { class: "row" }, field("Item id", { id: "item", list: "items", placeholder: "a" }), field("What they do", { id: "type", value: "view", required: true })), h("p", {}), h("button", {}, "Send"), options);
  const [item, type] = form.querySelectorAll("input");
  const body = () => ({ user_id: user, item_id: item.value || item.placeholder, event_type: type.value });
  function write() { code.textContent = curl("POST", "/v1/interactions", body(), access.keyed); }
  write();
  return {
    element: card("Try an event", h("p", { class: "soft" }, "Act as this user, and watch the list move."), form, sent, h("p", { class: "soft" }, "The same from a terminal:"), code),
    suggest(items) {
      options.replaceChildren(...items.map(one => new Option(one.title, one.item_id)));
      if (items.length) item.placeholder = items[0].item_id; // never into the box itself: somebody may be typing
      write();
    },
  };
}

function filterForm(ask, published) {
  const said = h("p", { id: "filtered", role: "status" });
  const form = h("form", { id: "try", onsubmit: async event => {
    event.preventDefault();
    said.textContent = "";
    try { await ask(form.querySelector("input").value); } catch (error) { if (error.name !== "AbortError") said.textContent = error.message; }
  } }, field("Filter, in CEL", { id: "filter", required: true, placeholder: '"Drama" in item.categories' }), h("p", {}), h("div", { class: "row" }, h("button", {}, "Ask with it"), h("button", { type: "button", class: "small", onclick: () => { said.textContent = ""; published(); } }, "back to the published list")));
  return card("Try a filter", h("p", { class: "soft" }, "Which items may be listed, by the fields of their records."), form, said);
}
