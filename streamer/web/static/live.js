// What happens, as it happens: one stream for all screens, which comes back by itself when the server was gone.
import { api, access, root } from "./api.js";

const ROWS = 14, PLACES = 2000, SAMPLES = 300, AGAIN_MS = 2000;

export const live = Object.assign(new EventTarget(), {
  rows: [], // the newest interactions, the newest first
  points: [], // [events, ours, popularity's hit rate so far, time]
  figures: {}, stats: null,
  samples: [], // [time, events a second, waiting], one a second
  up: null, // null: not known yet
  seenAt: null,
});

const places = new Set(); // of rows that were shown: the server tells the last ones again to whoever connects anew
let source = null, generation = 0;

const tell = (name, detail) => live.dispatchEvent(new CustomEvent(name, { detail }));

export function start() {
  stop();
  const mine = ++generation;
  const stream = source = new EventSource(`${root}/v1/stream`);
  const on = (name, take) => stream.addEventListener(name, event => { if (mine === generation) { take(JSON.parse(event.data)); tell(name); } });
  on("interactions", takeRows);
  on("quality", told => {
    if (told.anew) live.points.length = 0;
    live.points.push(...told.points);
    live.figures = told.figures;
  });
  on("stats", takeStats);
  stream.onopen = () => setUp(true);
  stream.onerror = () => {
    stream.close();
    if (mine === generation) { setUp(false); setTimeout(() => mine === generation && again(mine), AGAIN_MS); }
  };
}

export function stop() {
  generation++;
  source?.close();
}

// Asks whether the server is there before a stream is opened: a stream does not tell why it failed.
async function again(mine) {
  try {
    await api("/v1/session");
    if (mine === generation) start();
  } catch (error) {
    if (mine === generation && !(error.status === 401 && access.keyed)) setTimeout(() => mine === generation && again(mine), AGAIN_MS);
  }
}

function setUp(up) {
  if (live.up === up) return;
  const was = live.up;
  live.up = up;
  tell(up ? (was === false ? "back" : "up") : "gone");
}

function takeRows(rows) {
  for (const row of rows) {
    if (places.has(row.place)) continue;
    places.add(row.place);
    live.rows.unshift(row);
  }
  live.rows.length = Math.min(live.rows.length, ROWS);
  for (const place of places) {
    if (places.size <= PLACES) break;
    places.delete(place);
  }
}

function takeStats(stats) {
  live.stats = stats;
  live.seenAt = Date.now();
  const last = live.samples.at(-1);
  if (last && live.seenAt - last[0] < 1000) return;
  live.samples.push([live.seenAt, stats.events_per_second, stats.lag?.records ?? 0]);
  if (live.samples.length > SAMPLES) live.samples.shift();
}
