// Items: by title, and the popular ones.
import { access, api } from "./api.js";
import { card, command, curl, field, h, heading, itemLink, number } from "./dom.js";

export const title = "items";

export async function show(main, text, signal) {
  const found = h("ul", { id: "found" }), said = h("p", { id: "said", role: "status" });
  const popular = h("ol", {}), about = h("p", { class: "soft" }, "By interactions, those of the last day count most.");
  const input = field("Title, or item id", { id: "search", type: "search", value: text, required: true });
  const form = h("form", { class: "row", onsubmit: event => {
    event.preventDefault();
    history.replaceState(null, "", `#/items/${encodeURIComponent(form.querySelector("input").value)}`);
    search();
  } }, input, h("button", {}, "Search"));
  async function search() {
    const wanted = form.querySelector("input").value.trim();
    if (!wanted) return;
    try {
      const { items } = await api(`/v1/items?${new URLSearchParams({ search: wanted })}`, { signal });
      found.replaceChildren(...items.map(item => h("li", {}, itemLink(item.item_id, item.title), h("small", {}, ` ${item.item_id}`))));
      said.replaceChildren(items.length ? `${items.length} found` : h("span", {}, "No title has this in it. An item without a title is found by its id: ", itemLink(wanted, wanted)));
    } catch (error) { if (error.name !== "AbortError") said.textContent = error.message; }
  }
  main.append(heading("Items"), h("div", { class: "grid two" }, card("Search", form, said, found), card("Popular now", about, popular)));
  search();
  try {
    const { items } = await api("/v1/popular?k=20&fields=title", { signal });
    popular.append(...items.map(item => h("li", {}, itemLink(item.item_id, item.title), h("small", {}, ` ${number(item.score)}`))));
    if (!items.length) about.replaceWith(h("p", {}, "No item is known yet. Send one with its title:"), command(curl("POST", "/v1/items", { item_id: "a", title: "A first item" }, access.keyed)));
  } catch (error) {
    if (error.status) about.textContent = `What is popular is known to a worker, and none answers: ${error.message}`;
    else throw error;
  }
}
