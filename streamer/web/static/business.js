// What lists bring, by surface and arm: what was shown, clicked, bought.
import { card, h, number } from "./dom.js";

const SHOWN = [["impressions", "items shown", one => number(one.numerator)], ["ctr", "clicked", share], ["cvr", "bought of clicked", share], ["revenue_per_user", "a user brings", each], ["engagement_per_user", "s a user", each]];

function share(one) {
  return one.value === null ? "–" : `${number(one.value * 100)} %`;
}

function each(one) {
  return one.value === null ? "–" : number(one.value);
}

export function businessCard() {
  const none = h("p", { class: "soft" }, "Nothing yet: it comes with the first feedback that quotes a list, to /v1/feedback, while ", h("code", {}, "freshet run feedback"), " or ", h("code", {}, "freshet up"), " runs.");
  const body = h("tbody", { id: "business" });
  const table = h("table", { hidden: true }, h("thead", {}, h("tr", {}, ["surface", "arm", ...SHOWN.map(([, name]) => name)].map(name => h("th", { scope: "col" }, name)))), body);
  return {
    element: card("What lists bring", none, h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "What lists bring" }, table)),
    draw(figures) {
      const arms = new Map();
      for (const one of figures) {
        const arm = JSON.stringify([one.surface, one.arm]);
        if (!arms.has(arm)) arms.set(arm, {});
        arms.get(arm)[one.metric] = one;
      }
      none.hidden = arms.size > 0;
      table.hidden = !none.hidden;
      body.replaceChildren(...[...arms].map(([arm, found]) => h("tr", {}, JSON.parse(arm).map(name => h("th", { scope: "row" }, name)), SHOWN.map(([name, , words]) => h("td", {}, found[name] ? words(found[name]) : "–")))));
    },
  };
}
