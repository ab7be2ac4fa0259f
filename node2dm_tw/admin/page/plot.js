// Plots of the last 15 minutes as SVG; the newest point is at the right edge.
export const POINTS = 450, STEP = 2;
const NS = "http://www.w3.org/2000/svg";
const TOP = 8, BOTTOM = 20, LEFT = 44;

export function number(value) {
  if (value >= 1e6) return (value / 1e6).toFixed(value < 1e7 ? 2 : 1) + " M";
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en").replaceAll(",", "\u2009");
  return value.toFixed(1);
}

export function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min` + (s % 60 && s < 600 ? ` ${s % 60} s` : "");
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

function svg(name, attributes, parent) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

// The smallest round number that is not below the value, for the top of an axis.
export function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value);
}

// The same for times, whose halves must be round too.
export function timeCeiling(value) {
  return [2, 10, 20, 60, 120, 600, 1200, 2400, 3600, 7200, 14400, 43200, 86400].find((top) => top >= value) ?? 86400 * Math.ceil(value / 86400);
}

// A line through the values; with `ground`, only the parts that differ from it.
function path(values, x, y, ground) {
  let d = "", down = false;
  const up = (value) => value > ground;
  values.forEach((value, i) => {
    const skip = ground !== undefined && !(up(value) || up(values[i - 1]) || up(values[i + 1]));
    if (!skip) d += `${down ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    down = !skip;
  });
  return values.length === 1 && d ? `${d}h0` : d; // a dot
}

export class Plot {
  // series: [{label, name, index, area, sparse}]; format: formats a value. A screen reader reads the selected point.
  constructor(place, legend, title, series, format, ceiling) {
    Object.assign(this, { place, series, format, ceiling, points: [], now: [], chosen: null });
    this.svg = svg("svg", { tabindex: 0, role: "slider", "aria-label": `${title}, last 15 minutes; arrow keys go back in time`,
      "aria-valuemin": 0, "aria-valuemax": POINTS - 1 });
    place.append(this.svg);
    this.grid = svg("g", {}, this.svg);
    for (const each of series) {
      if (each.area) each.fill = svg("path", { class: `fill ${each.name}` }, this.svg);
      each.line = svg("path", { class: `line ${each.name}` }, this.svg);
      const label = document.createElement("span"), key = document.createElement("span");
      key.className = `key ${each.name}${each.area ? " area" : ""}`;
      each.value = document.createElement("b");
      label.append(key, `${each.label} `, each.value);
      legend.append(label);
    }
    this.when = document.createElement("span");
    legend.append(this.when);
    this.cursor = svg("line", { class: "cursor", visibility: "hidden" }, this.svg);
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("blur", () => this.choose(null));
    place.addEventListener("pointermove", (event) => this.point(event));
    place.addEventListener("pointerleave", () => this.choose(null));
    new ResizeObserver(() => this.draw()).observe(place);
  }

  key(event) {
    const last = this.points.length - 1, at = this.chosen ?? last;
    const next = { ArrowLeft: at - 5, ArrowRight: at + 5, PageUp: at - 30, PageDown: at + 30, Home: 0, End: last }[event.key];
    if (next === undefined) { if (event.key === "Escape") this.choose(null); return; }
    event.preventDefault();
    this.choose(Math.max(0, Math.min(last, next)));
  }

  point(event) {
    const box = this.place.getBoundingClientRect(), last = this.points.length - 1;
    const back = Math.round((box.right - event.clientX) / (box.width - LEFT) * (POINTS - 1));
    this.choose(back >= 0 && back <= last ? last - back : null);
  }

  choose(index) { this.chosen = index; this.draw(); }

  // now: the present values, which the newest point may not have yet.
  show(points, now) { Object.assign(this, { points: points.length ? points : [now], now }); this.draw(); }

  draw() {
    const { width, height } = this.place.getBoundingClientRect(), last = this.points.length - 1;
    if (last < 0 || !width) return;
    const top = this.ceiling(Math.max(...this.points.flatMap((p) => this.series.map((s) => p[s.index]))));
    const floor = height - BOTTOM, step = (width - LEFT) / (POINTS - 1);
    const x = (i) => width - (last - i) * step, y = (value) => floor - value / top * (floor - TOP);
    this.axes(width, floor, top, y);
    for (const each of this.series) {
      const d = path(this.points.map((p) => p[each.index]), x, y, each.sparse ? 0 : undefined);
      each.line.setAttribute("d", d);
      if (each.fill) each.fill.setAttribute("d", `${d}L${width} ${floor}L${x(0).toFixed(1)} ${floor}Z`);
    }
    const at = Math.min(this.chosen ?? last, last), ago = (last - at) * STEP;
    const values = this.chosen === null ? this.now : this.points[at];
    const told = this.series.map((s) => [s, this.format(values[s.index])]);
    for (const [each, text] of told) each.value.textContent = text;
    this.when.textContent = this.chosen === null ? "" : ago ? `${duration(ago)} ago` : "now";
    for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, x(at));
    this.cursor.setAttribute("y1", TOP);
    this.cursor.setAttribute("y2", floor);
    this.cursor.setAttribute("visibility", this.chosen === null ? "hidden" : "visible");
    this.svg.setAttribute("aria-valuenow", POINTS - 1 - (last - at));
    this.svg.setAttribute("aria-valuetext", `${ago ? duration(ago) + " ago" : "now"}: ` + told.map(([s, text]) => `${s.label} ${text}`).join(", "));
  }

  axes(width, floor, top, y) {
    const key = `${width} ${floor} ${top}`;
    if (key === this.drawn) return;
    this.drawn = key;
    this.grid.replaceChildren();
    for (const part of floor > 150 ? [0, .25, .5, .75, 1] : [0, .5, 1]) {
      const at = y(top * part);
      svg("line", { class: "grid", x1: LEFT, x2: width, y1: at, y2: at }, this.grid);
      svg("text", { x: LEFT - 7, y: at + 4, "text-anchor": "end" }, this.grid).textContent = this.format(top * part);
    }
    for (const minutes of [15, 10, 5, 0]) {
      const at = LEFT + (width - LEFT) * (1 - minutes / 15);
      svg("text", { x: at, y: floor + 16, "text-anchor": minutes === 15 ? "start" : minutes ? "middle" : "end" }, this.grid)
        .textContent = minutes ? `\u2212${minutes} min` : "now";
    }
  }
}

// A small plot without axes, of points [sent, failed].
export function spark(place, points) {
  const made = place.firstChild ?? place.appendChild(svg("svg", { viewBox: "0 0 150 24", preserveAspectRatio: "none", "aria-hidden": "true" }));
  if (!made.firstChild) for (const name of ["fill sent", "line sent", "line failed"]) svg("path", { class: name, "vector-effect": "non-scaling-stroke" }, made);
  const most = Math.max(1, ...points.flat());
  const x = (i) => 150 - (points.length - 1 - i) * 150 / (POINTS - 1), y = (value) => 23 - value / most * 21;
  const sent = path(points.map((p) => p[0]), x, y), failed = path(points.map((p) => p[1]), x, y, most / 25);
  made.children[0].setAttribute("d", points.length ? `${sent}L150 23L${x(0)} 23Z` : "");
  made.children[1].setAttribute("d", sent);
  made.children[2].setAttribute("d", failed);
}
