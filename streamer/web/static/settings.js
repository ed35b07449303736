// The settings that a worker's lists depend on, and what it holds.
import { api } from "./api.js";
import { card, command, date, h, heading, number } from "./dom.js";

export const title = "settings";

export async function show(main, _, signal) {
  const place = h("div", { class: "grid two" });
  main.append(heading("Settings in force"), place);
  const status = await api("/v1/status", { signal });
  if (!status.workers.length) {
    place.append(card("No worker answers", h("p", {}, "The settings in force are a worker’s, and none can be asked here. Start one that answers, with the --log or --bootstrap of this server:"), command("freshet run --api-port 0")));
    return;
  }
  const table = pairs => h("table", { class: "words" }, h("tbody", {}, pairs.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))));
  for (const worker of status.workers) {
    const settings = Object.entries(worker.settings);
    place.append(card(worker.address ? `The worker at ${worker.address}` : "The worker of this process", table([
      ["interactions", number(worker.interactions)], ["users", number(worker.users)], ["items", number(worker.items)], ["epochs", number(worker.epoch)],
      ["the stream’s clock", date(worker.clock)], ["model", worker.model_version], ["embeddings", worker.embeddings ?? "none"], ["repairs that wait", number(worker.pending_repairs)],
    ])), card("Its settings", settings.length ? table(settings.map(([name, value]) => [name, JSON.stringify(value)])) : h("p", { class: "soft" }, "They come with its first epoch.")));
  }
}
