// Experiments: what is compared, and in a sentence what came of it; the figures are folded away.
import { api } from "./api.js";
import { card, h, number } from "./dom.js";

const FIGURES = [["metric", one => one.metric], ["first arm", one => number(one.first)], ["this arm", one => number(one.value)], ["difference", one => number(one.difference)], ["at any time, 95 %", between], ["users needed", one => number(one.users_needed)], ["verdict", one => one.verdict]];

function between(one) {
  return one.always_low === null ? "–" : `${number(one.always_low)} to ${number(one.always_high)}`;
}

export function experimentsCard() {
  const none = h("p", { class: "soft" }, "There are none. ", h("code", {}, "freshet experiment create FILE"), " makes one: ways of making lists, compared on shares of the users.");
  const told = h("div", { id: "experiments" }), opened = new Set();
  function figures(name, arm, rows) {
    const table = h("table", {}, h("thead", {}, h("tr", {}, FIGURES.map(([head]) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map(one => h("tr", {}, FIGURES.map(([, cell], n) => n ? h("td", {}, cell(one)) : h("th", { scope: "row" }, cell(one)))))));
    const place = `${name}/${arm}`, all = h("details", { open: opened.has(place) }, h("summary", {}, `Figures of ${arm}`), h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": `Figures of ${arm} in ${name}` }, table));
    all.addEventListener("toggle", () => opened[all.open ? "add" : "delete"](place));
    return all;
  }
  function one({ experiment, users, mismatched, verdicts, differences, beside_live }) {
    const arms = new Set(differences.map(row => row.arm)), counts = Object.entries(users).map(([arm, n]) => `${arm} ${number(n)}`).join(", ");
    return [
      h("h3", {}, `${experiment.name} on ${experiment.surface}: ${experiment.state}`),
      mismatched ? h("p", { class: "bad" }, "Users are not dealt as the shares say: nothing can be said.") : null,
      ...[...beside_live, ...verdicts].map(sentence => h("p", {}, sentence)),
      h("p", { class: "soft" }, `Users with feedback: ${counts}.`),
      ...[...arms].map(arm => figures(experiment.name, arm, differences.filter(row => row.arm === arm))),
    ].filter(Boolean);
  }
  let last = "";
  return {
    element: card("Experiments", none, told),
    async ask(signal) {
      const { experiments } = await api("/v1/experiments", { signal }), text = JSON.stringify(experiments);
      none.hidden = experiments.length > 0;
      if (text === last) return; // what stays is not made anew: the focus may be on it
      last = text;
      told.replaceChildren(...experiments.flatMap(one));
    },
  };
}
