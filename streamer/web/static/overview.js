// What happens, how good the lists are, and whether anything is wrong.
import { access, api, path, root } from "./api.js";
import { businessCard } from "./business.js";
import { card, command, curl, date, duration, figures, h, heading, itemLink, number, userLink } from "./dom.js";
import { experimentsCard } from "./experiments.js";
import { follow, listView } from "./list.js";
import { live } from "./live.js";
import { emptyPlot, key, plot } from "./plot.js";

export const title = "overview";
const WINDOWS = 40, STATUS_MS = 2000, EXPERIMENTS_MS = 10000, STAY_MS = 6000;
const FIRST = { user_id: "u1", item_id: "a", event_type: "view" };
const START = "freshet run --api-port 0";

export function show(main, _, signal) {
  const figure = id => h("span", { id }, "–");
  const [events, rate, latency, slow, lag, lists] = ["events", "rate", "latency", "slow", "lag", "lists"].map(figure);
  const state = h("p", { id: "state", role: "status" });
  const next = h("section", { class: "call", "aria-labelledby": "h-next", hidden: true }, h("h2", { id: "h-next" }, "Nothing has happened yet"),
    h("p", {}, "Send a first interaction from a terminal; it appears here at once, and a list for its user follows:"), command(curl("POST", "/v1/interactions", FIRST, access.keyed)),
    h("p", {}, "Titles of items go to /v1/items in the same way; ", h("a", { href: `${root}/docs` }, `${root}/docs`), " has every path."));
  const feed = h("ul", { id: "feed" }), nothing = h("p", { class: "soft" }, "No interaction yet.");
  const quality = qualityCard(), traffic = trafficCard(), trouble = troubleCard(), business = businessCard(), experiments = experimentsCard(), worker = h("div", { id: "worker" }, h("p", { class: "soft" }, "asking …"));
  main.append(
    heading("Overview"),
    h("p", { class: "soft" }, "Every interaction reaches a model that learns from it at once: what people do, what one of them would be shown now, and how often that is right."),
    figures([["interactions on the log", events], ["interactions a second", rate], ["to the list, half are faster", latency], ["99 of 100 are faster", slow], ["waiting for the worker", lag], ["users with a list", lists]]),
    state, next,
    h("div", { class: "grid" },
      h("div", { class: "column" }, card("What people do", h("p", { class: "soft" }, "The newest interactions, as they arrive."), nothing, feed), traffic.element),
      followCard(signal),
      h("div", { class: "column" }, quality.element, card("The worker", worker), trouble.element)),
    business.element, experiments.element);

  function drawStats() {
    const stats = live.stats;
    if (!stats) return;
    next.hidden = stats.events > 0;
    events.textContent = number(stats.events);
    rate.textContent = number(stats.events_per_second);
    latency.textContent = stats.latency_ms ? `${number(stats.latency_ms.p50)} ms` : "–";
    slow.textContent = stats.latency_ms ? `${number(stats.latency_ms.p99)} ms` : "–";
    lag.textContent = stats.lag ? number(stats.lag.records) : "–";
    lists.textContent = number(stats.lists);
    const late = stats.late ? `${number(Math.max(0.1, Math.round(stats.late * 1000) / 10))} % of the last lists came more than 5 s after their interaction; they are not in the latencies above.` : "";
    state.textContent = stats.catching_up ? `Catching up: ${number(stats.lag.records)} interactions wait, the first of them for ${duration(stats.lag.ms)}. ${late}` : late;
    traffic.draw();
  }
  function drawFeed() {
    nothing.hidden = live.rows.length > 0;
    feed.hidden = !nothing.hidden;
    const shown = new Map([...feed.children].map(li => [li.dataset.place, li])), kept = new Set(live.rows.map(row => row.place));
    for (const row of live.rows.filter(row => !shown.has(row.place)).reverse()) feed.prepend(h("li", { class: "cut", "data-place": row.place }, userLink(row.user), h("span", { class: "soft" }, ` ${row.type}${row.value === null ? "" : ` ${row.value}`} `), itemLink(row.item, row.title)));
    for (const [place, li] of shown) if (!kept.has(place)) li.remove(); // what stays is not made anew: the focus may be on it
  }
  const drawQuality = () => quality.draw(live.points, live.figures);
  for (const [name, draw] of [["stats", drawStats], ["interactions", drawFeed], ["quality", drawQuality]]) { live.addEventListener(name, draw, { signal }); draw(); }
  addEventListener("resize", () => { drawQuality(); traffic.draw(); }, { signal });
  repeat(async () => {
    const status = await api("/v1/status", { signal });
    drawWorker(worker, status);
    trouble.draw(status);
    business.draw(status.business ?? []);
    quality.mark(status.drifts ?? []);
  }, STATUS_MS, signal);
  repeat(() => experiments.ask(signal), EXPERIMENTS_MS, signal);
}

function repeat(action, everyMs, signal) {
  action().catch(() => {}).finally(() => { if (!signal.aborted) setTimeout(() => !signal.aborted && repeat(action, everyMs, signal), everyMs); });
}

function drawWorker(place, status) {
  if (status.workers.length) {
    place.replaceChildren(...status.workers.map(w => h("p", {}, h("strong", { class: "good" }, "A worker runs. "), `${number(w.interactions)} interactions of ${number(w.users)} users with ${number(w.items)} items taken, in ${number(w.epoch)} epochs, up to ${date(w.clock)}.`)));
    return;
  }
  const waits = status.lag === null ? status.events > 0 : status.catching_up;
  const again = "Start one, with the --log or --bootstrap of this server:";
  const text = waits ? `No worker takes what comes: ${status.lag ? `${number(status.lag.records)} interactions wait, the first for ${duration(status.lag.ms)}` : "no epoch has been seen"}. ${again}`
    : status.events ? "Interactions are taken, but no worker can be asked here: the page shows published lists, and no explanations. A worker that answers questions:" : `No worker answers. ${again}`;
  place.replaceChildren(h("p", { class: waits ? "bad" : "" }, text), command(START));
}

// The list of whoever is active, a while each.
function followCard(signal) {
  const about = h("p", { class: "soft" }, "The list of whoever is active, a few seconds each. It comes with the first interaction."), who = h("span", {}, "");
  const place = h("div", {});
  let since = -Infinity, current = null, leaving = new AbortController();
  function choose() {
    const user = live.rows[0]?.user;
    if (user === undefined || user === current || performance.now() - since < STAY_MS || place.contains(document.activeElement)) return;
    leaving.abort();
    leaving = new AbortController();
    current = user;
    since = performance.now();
    who.replaceChildren("User ", userLink(user));
    about.textContent = "Waiting for this user’s next list …";
    const view = listView(user, { about, signal: leaving.signal });
    place.replaceChildren(view.list);
    follow(user, view, about, leaving.signal);
  }
  signal.addEventListener("abort", () => leaving.abort());
  live.addEventListener("interactions", choose, { signal });
  choose();
  return card("One user’s list", h("p", {}, who), about, place);
}

function qualityCard() {
  const body = h("tbody", {}), svg = emptyPlot("no figures yet"), none = h("p", { class: "soft" }, "No figures yet: they come with the first lists that are followed by an interaction.");
  const words = h("p", { class: "soft" }, "Before each interaction is known, a list is made for its user. HR: how often the item was in it. NDCG: the same, counting a higher place more. Beside it: what is popular now.");
  const keys = h("p", { class: "key" }, key("ours", "Freshet"), key("theirs", "popular now"));
  const drift = h("p", { id: "drift" });
  const table = h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "so far"), h("th", { scope: "col" }, "Freshet"), h("th", { scope: "col" }, "popular now"))), body);
  let drifts = [], points = [];
  function drawPlot() {
    const parts = windowed(points);
    if (!parts.length) return;
    const marks = drifts.map(one => ({ x: placeOf(points, one.timestamp), name: "drift" }));
    plot(svg, {
      lines: [{ kind: "theirs", points: parts.map(w => [w.x, w.theirs]) }, { kind: "ours", points: parts.map(w => [w.x, w.ours]) }], marks,
      xName: "interactions measured", yText: y => y.toFixed(2), label: `Hit rate in ${parts.length} windows: ours ${parts.at(-1).ours.toFixed(3)}, popularity ${parts.at(-1).theirs.toFixed(3)} in the last one`,
    });
  }
  const windows = h("div", {}, table, h("h3", {}, "Hit rate, window by window"), svg, keys);
  return {
    element: card("Is it any good?", words, none, windows, drift),
    draw(told, latest) {
      points = told;
      none.hidden = points.length > 0;
      windows.hidden = !none.hidden;
      body.replaceChildren(...Object.entries(latest).filter(([name]) => name.includes("@")).map(([name, [ours, theirs]]) => h("tr", { id: name.split("@")[0] }, h("th", { scope: "row" }, name.toUpperCase()), h("td", {}, ours.toFixed(3)), h("td", {}, theirs.toFixed(3)))));
      drawPlot();
    },
    mark(told) {
      drifts = told;
      const last = drifts.at(-1);
      drift.textContent = last ? `${drifts.length} drift ${drifts.length === 1 ? "alarm" : "alarms"}; the last at ${date(last.timestamp)}: hit rate from ${last.hr_before.toFixed(3)} to ${last.hr_after.toFixed(3)}.` : points.length ? "No drift alarm." : "";
      drawPlot();
    },
  };
}

// Means so far → means within windows of about the same number of interactions.
export function windowed(points) {
  if (!points.length) return [];
  const span = Math.max(1, (points.at(-1)[0] - points[0][0]) / WINDOWS), found = [];
  let [from, oursFrom, theirsFrom] = points[0];
  if (points.length === 1) return [{ x: from, ours: oursFrom, theirs: theirsFrom }];
  for (const [events, ours, theirs] of points) {
    const size = events - from;
    if (size < span) continue;
    found.push({ x: events, ours: Math.max(0, (ours * events - oursFrom * from) / size), theirs: Math.max(0, (theirs * events - theirsFrom * from) / size) });
    [from, oursFrom, theirsFrom] = [events, ours, theirs];
  }
  return found;
}

// How many interactions were measured at an event time.
function placeOf(points, time) {
  return (points.find(point => point[3] >= time) ?? points.at(-1) ?? [NaN])[0];
}

function trafficCard() {
  const rates = emptyPlot("no figures yet"), waiting = emptyPlot("no figures yet");
  return {
    element: card("The last minutes", h("h3", {}, "Interactions a second"), rates, h("h3", {}, "Waiting for the worker"), waiting),
    draw() {
      const now = live.samples.at(-1)?.[0];
      if (live.samples.length < 2) return;
      for (const [svg, column, label] of [[rates, 1, "interactions a second"], [waiting, 2, "interactions that wait"]]) {
        const points = live.samples.map(sample => [(sample[0] - now) / 1000, sample[column]]);
        plot(svg, { lines: [{ kind: "ours", points }], xName: "seconds", label: `${label}: ${number(points.at(-1)[1])} now` });
      }
    },
  };
}

function troubleCard() {
  const examples = new Map(); // by reason and place: an open one stays where the card is drawn again
  async function show(one, shown) {
    try {
      const told = await api(path`/v1/dead-letters/${one.reason}`);
      shown.textContent = told.value ?? "(no value)";
    } catch (error) { shown.textContent = error.message; }
  }
  function example(one) {
    const place = `${one.reason} ${one.topic} ${one.partition} ${one.offset}`;
    if (!examples.has(place)) {
      const shown = h("pre", { tabindex: "0" }, "…");
      const opened = h("details", {}, h("summary", {}, `An example of ${one.reason}`), shown);
      opened.addEventListener("toggle", () => { if (opened.open) show(one, shown); });
      examples.set(place, opened);
    }
    return examples.get(place);
  }
  const none = h("p", { class: "soft" }, "None of late."), reasons = h("ul", { id: "dead" });
  return {
    element: card("Records that could not be taken", none, reasons),
    draw(status) {
      const letters = status.dead_letters ?? [];
      none.hidden = letters.length > 0;
      reasons.replaceChildren(...letters.map(one => h("li", {}, h("strong", {}, one.reason), ` ${number(one.count)} of the last; the newest: ${one.message} `, h("small", {}, `(${one.topic}, partition ${one.partition}, offset ${one.offset})`), example(one))));
      const places = new Set(letters.map(one => `${one.reason} ${one.topic} ${one.partition} ${one.offset}`));
      for (const place of examples.keys()) if (!places.has(place)) examples.delete(place);
    },
  };
}
