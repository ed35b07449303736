// Which screen is shown, whether the server is there, and the key where it asks for one.
import { api, access, Gone, onUnauthorized } from "./api.js";
import { command, field, h, heading } from "./dom.js";
import { live, start, stop } from "./live.js";
import * as item from "./item.js";
import * as items from "./items.js";
import * as overview from "./overview.js";
import * as rules from "./rules.js";
import * as settings from "./settings.js";
import * as user from "./user.js";
import * as users from "./users.js";

const SCREENS = { "": overview, users, user, items, item, rules, settings };
const main = document.getElementById("main"), banner = document.getElementById("banner"), nav = document.getElementById("nav");
let leaving = new AbortController(), entered = false;

addEventListener("unhandledrejection", event => {  // who leaves a screen waits for none of its answers
  if (event.reason?.name === "AbortError") event.preventDefault();
});

function show(moved) {
  leaving.abort();
  leaving = new AbortController();
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const screen = SCREENS[name] ?? SCREENS[""], argument = decoded(rest.join("/"));
  for (const link of nav.children) {
    const at = link.hash.slice(2), here = at === name || at === `${name}s`;
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `Freshet: ${argument || screen.title}`;
  main.replaceChildren();
  const signal = leaving.signal;
  Promise.resolve(screen.show(main, argument, signal)).catch(error => {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof Gone)) main.append(h("p", { class: "bad", role: "alert" }, error.message));
    if (!error.status) console.error(error);
  });
  if (moved) { scrollTo(0, 0); main.querySelector("h1")?.focus(); }
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function login() {
  stop();
  leaving.abort();
  entered = false;
  banner.hidden = true;
  const refused = h("p", { id: "refused", class: "bad", role: "alert" });
  const form = h("form", { id: "login", onsubmit: async event => {
    event.preventDefault();
    const input = form.querySelector("input"), key = input.value;
    input.value = refused.textContent = "";
    try {
      await api("/v1/session", { method: "POST", body: { key } });
      enter();
    } catch (error) { refused.textContent = error.message; }
  } }, h("p", { class: "soft" }, "This server asks for an API key. The browser keeps a session of twelve hours, not the key."),
  field("API key", { id: "key", type: "password", required: true, autocomplete: "current-password" }), h("p", {}), h("button", {}, "Log in"), refused);
  main.replaceChildren(h("section", { class: "login" }, heading("A key, please"), form));
  form.querySelector("input").focus();
}

async function enter() {
  try {
    await api("/v1/session");
  } catch (error) {
    if (error.status !== 401) { gone(); setTimeout(enter, 2000); }
    return; // the form is shown
  }
  banner.hidden = true;
  entered = true;
  start();
  show(false);
}

function gone() {
  const since = live.seenAt ? ` What you see is from ${new Date(live.seenAt).toLocaleTimeString()}.` : "";
  banner.replaceChildren(h("p", {}, h("strong", {}, "The server does not answer."), `${since} It is tried again every two seconds, and the page goes on by itself when it is there. If it has ended, start it again: `, h("code", {}, "freshet serve"), " or ", h("code", {}, "freshet up"), "."));
  banner.hidden = false;
}

live.addEventListener("gone", () => { if (entered) gone(); });
live.addEventListener("up", () => { banner.hidden = true; });
live.addEventListener("back", () => { banner.hidden = true; if (entered) show(false); });
onUnauthorized(() => login());
addEventListener("hashchange", () => { if (entered) show(true); });
enter();
