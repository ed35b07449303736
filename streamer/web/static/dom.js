// Elements, numbers and times as text. Text only ever becomes text nodes: nothing of the stream is read as HTML.
import { root } from "./api.js";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

let named = 0;

// A card with a heading that names it.
export function card(title, ...children) {
  const id = `h-${++named}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

export function field(label, attributes) {
  return h("div", {}, h("label", { for: attributes.id }, label), h("input", { autocomplete: "off", ...attributes }));
}

// Pairs of (what, figure); a figure may be an element that is written to later.
export function figures(pairs) {
  return h("dl", { class: "figures" }, pairs.map(([what, value]) => h("div", {}, h("dt", {}, what), h("dd", {}, value))));
}

export function heading(...content) {
  return h("h1", { tabindex: "-1" }, ...content);
}

export const number = n => n === null || n === undefined ? "–" : n.toLocaleString("en", { maximumFractionDigits: 2 });
export const date = ms => ms === null || ms === undefined ? "never" : new Date(ms).toISOString().slice(0, 16).replace("T", " ") + " UTC";

export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  return ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;
}

export const userLink = id => h("a", { href: `#/user/${encodeURIComponent(id)}` }, id);
export const itemLink = (id, title) => h("a", { href: `#/item/${encodeURIComponent(id)}` }, title || id);
export const command = text => h("pre", { tabindex: "0" }, text);

const quoted = text => `'${text.replaceAll("'", "'\\''")}'`;

// The command that sends the same from a terminal.
export function curl(method, path, body, keyed) {
  const key = keyed ? ' -H "Authorization: Bearer $KEY"' : "";
  const sent = body ? ` -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}` : "";
  return `curl -X ${method} ${quoted(location.origin + root + path)}${key}${sent}`;
}
