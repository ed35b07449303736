// Rules of surfaces: those in force, other ones to try on some users, and to put in force.
import { api, path } from "./api.js";
import { card, date, field, h, heading, itemLink, userLink } from "./dom.js";

export const title = "rules";
const EXAMPLE = { surface: "default", filter: "!has(item.price) || item.price < 50", quotas: [{ per: "item.category", max: 3 }] };
const SHOWN = 10;

export async function show(main, _, signal) {
  const force = h("div", { id: "force" }, h("p", { class: "soft" }, "asking …")), text = h("textarea", { id: "rules", rows: 14, spellcheck: "false" });
  const said = h("p", { id: "said", role: "status" }), tried = h("div", { id: "tried" });
  const warned = h("div", { id: "warnings", role: "status" });
  const users = field("Users, with commas", { id: "users", placeholder: "ann, bob" });
  const put = h("button", { type: "button", id: "put", onclick: () => apply() }, "Put in force");
  const form = h("form", { onsubmit: event => { event.preventDefault(); preview(); } },
    h("label", { for: "rules" }, "Rules, as JSON"), text, users, h("p", {}), h("button", { id: "try" }, "Try"), " ", put, said, warned);
  text.value = JSON.stringify(EXAMPLE, null, 2);
  main.append(heading("Rules"), h("p", { class: "soft" }, "What may be listed on a surface, what counts more, what stands where, and how much of one kind. Nothing changes before they are put in force."),
    h("div", { class: "grid two" }, card("Other rules", form), h("div", { class: "column" }, card("In force", force), card("What they would do", tried))));
  tried.append(h("p", { class: "soft" }, "Name some users and try: their lists as they are, and as these rules would make them."));

  function written() {
    try { return JSON.parse(text.value); } catch (error) { said.textContent = `This is no JSON: ${error.message}`; return null; }
  }
  async function preview() {
    const rules = written(), named = users.querySelector("input").value.split(",").map(one => one.trim()).filter(Boolean);
    if (!rules) return;
    if (!named.length) { said.textContent = "Name a user whose lists are to be shown."; return; }
    said.textContent = "asking …";
    try {
      const told = await api("/v1/rules/preview", { method: "POST", body: { rules, users: named, k: SHOWN, fields: ["title"] }, signal });
      warn(told.warnings);
      said.textContent = `Version ${told.version}, not in force.`;
      tried.replaceChildren(...told.lists.map(compared));
    } catch (error) { refused(error); }
  }
  async function apply() {
    const rules = written();
    if (!rules) return;
    put.disabled = true;
    said.textContent = "sent …";
    try {
      const told = await api("/v1/rules", { method: "PUT", body: rules, signal });
      warn(told.warnings);
      said.textContent = told.applied.map(one => `${one.surface}: ${one.version}, ${one.changed ? "in force from the next epoch on" : "in force already"}`).join("; ");
      await load();
    } catch (error) { refused(error); } finally { put.disabled = false; }
  }
  function warn(warnings) {
    const lines = warnings.map(one => h("li", {}, one.field ? h("code", {}, one.field) : null, one.field ? ": " : "", one.message));
    warned.replaceChildren(...(lines.length ? [h("p", {}, "This can have no effect by what is known now:"), h("ul", {}, lines)] : []));
  }
  function refused(error) {
    warn([]);
    if (error.name !== "AbortError") said.textContent = error.message;
  }
  async function load() {
    const { rules } = await api("/v1/rules", { signal });
    force.replaceChildren(...(rules.length ? rules.map(inForce) : [h("p", { class: "soft" }, "There are none: lists are what the model and the settings make of them.")]));
  }
  function inForce(one) {
    const before = h("ul", { hidden: true });
    const open = h("button", { type: "button", class: "small", "aria-expanded": "false", onclick: async () => {
      before.hidden = !before.hidden;
      open.setAttribute("aria-expanded", String(!before.hidden));
      if (before.hidden) return;
      const told = (await api(path`/v1/rules?surface=${one.surface}`, { signal })).rules[0];
      before.replaceChildren(...(told.before.length ? told.before.map(version => h("li", {}, `${version.version}, ${since(version)} `, edit(version))) : [h("li", { class: "soft" }, "There was nothing before.")]));
    } }, "before");
    return h("div", {}, h("h3", {}, one.surface), h("p", { class: "soft" }, `${one.version}, ${since(one)} `, edit(one), " ", open), h("pre", { tabindex: "0" }, JSON.stringify(one.rules, null, 1)), before);
  }
  const since = version => version.since_ms ? `since ${date(version.since_ms)}` : "nobody knows since when";
  const edit = version => h("button", { type: "button", class: "small", "aria-label": `edit ${version.rules.surface} ${version.version}`, onclick: () => { text.value = JSON.stringify(version.rules, null, 2); text.focus(); } }, "edit");
  await load();
}

function compared(told) {
  if (told.error) return h("p", { class: "bad" }, told.error.message);
  const before = told.before.items.map(item => item.item_id), after = told.after.items, ids = new Set(after.map(item => item.item_id));
  const gone = told.before.items.filter(item => !ids.has(item.item_id));
  return h("div", {}, h("h3", {}, userLink(told.user_id)),
    h("ol", { class: "list" }, after.map((item, n) => h("li", { "data-id": item.item_id }, h("span", { class: "rank" }, String(n + 1)), h("div", { class: "title" }, itemLink(item.item_id, item.title)), h("span", { class: "end" }, h("span", { class: "moved" }, moved(before.indexOf(item.item_id), n)))))),
    after.length ? null : h("p", { class: "bad" }, "Nothing may be listed."),
    gone.length ? h("p", { class: "soft" }, "Gone: ", gone.map((item, n) => [n ? ", " : "", itemLink(item.item_id, item.title)])) : null);
}

const moved = (was, n) => was === n ? "" : was < 0 ? "new" : was > n ? `▲ ${was - n}` : `▼ ${n - was}`;
