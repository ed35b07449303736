// Lines over two axes, as SVG.

const NS = "http://www.w3.org/2000/svg", HEIGHT = 170, LEFT = 44, RIGHT = 8, TOP = 14, BOTTOM = 30;

function s(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Round steps between two numbers, 1, 2 or 5 times a power of ten, about `most` of them. (−0 + 0 is 0.)
export function ticks(from, to, most) {
  const span = to - from || 1, rough = span / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough * 0.999999);
  const found = [];
  for (let n = Math.ceil(from / step - 1e-9); n * step <= to + step * 1e-6; n++) found.push(n * step + 0);
  return found;
}

export function emptyPlot(label) {
  return s("svg", { class: "plot", role: "img", "aria-label": label });
}

// svg: of `emptyPlot`; lines: [{ kind: "ours" | "theirs", points: [[x, y]] }]; marks: [{ x, name }].
export function plot(svg, { lines, marks = [], xName, xText = x => x.toLocaleString("en"), yText = y => y.toLocaleString("en"), label }) {
  const width = Math.max(svg.clientWidth, 200), all = lines.flatMap(line => line.points);
  if (!all.length) return;
  const x0 = Math.min(...all.map(p => p[0])), x1 = Math.max(...all.map(p => p[0])), top = Math.max(...all.map(p => p[1])) * 1.1 || 1;
  const x = v => LEFT + (width - LEFT - RIGHT) * (v - x0) / (x1 - x0 || 1), y = v => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * v / top;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("aria-label", label);
  const drawn = [];
  for (const v of ticks(0, top, 4)) drawn.push(s("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }), s("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, yText(v)));
  for (const v of ticks(x0, x1, Math.max(2, Math.floor(width / 110)))) drawn.push(s("text", { x: x(v), y: HEIGHT - BOTTOM + 14, "text-anchor": x(v) > width - RIGHT - 20 ? "end" : "middle" }, xText(v)));
  drawn.push(s("text", { x: width - RIGHT, y: HEIGHT - 2, "text-anchor": "end" }, xName));
  for (const mark of marks) if (mark.x >= x0 && mark.x <= x1) drawn.push(s("line", { class: "mark", x1: x(mark.x), x2: x(mark.x), y1: TOP, y2: HEIGHT - BOTTOM }), s("text", { class: "markname", x: x(mark.x), y: TOP - 3, "text-anchor": "middle" }, mark.name));
  for (const { kind, points } of lines) drawn.push(s("polyline", { class: kind, points: points.map(p => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" ") }));
  svg.replaceChildren(...drawn);
}

export function key(kind, text) {
  const line = s("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }), span = document.createElement("span");
  line.append(s("line", { class: kind, x1: 0, x2: 22, y1: 4, y2: 4 }));
  span.append(line, text);
  return span;
}
