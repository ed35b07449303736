// Who was active lately, and the way to anybody else.
import { api } from "./api.js";
import { card, field, h, heading, userLink } from "./dom.js";

export const title = "users";

export async function show(main, _, signal) {
  const form = h("form", { class: "row", onsubmit: event => {
    event.preventDefault();
    location.hash = `#/user/${encodeURIComponent(form.querySelector("input").value)}`;
  } }, field("User id", { id: "user", required: true }), h("button", {}, "Show"));
  const list = h("ul", { id: "users" }), about = h("p", { class: "soft" }, "Who did something last comes first.");
  main.append(heading("Users"), h("div", { class: "grid two" }, card("Go to a user", form), card("Active lately", about, list)));
  const { users } = await api("/v1/users", { signal });
  if (!users.length) about.replaceChildren("Nobody has done anything yet. The ", h("a", { href: "#/" }, "overview"), " has the command that sends a first interaction.");
  list.append(...users.map(user => h("li", { class: "cut" }, userLink(user))));
}
