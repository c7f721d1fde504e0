// The network's graph. Only the rows on the screen exist as elements, so ten thousand layers cost no more than twenty.

import { element, svg } from "./dom.js";
import { shape } from "./format.js";
import { bucketed, layout } from "./layer_layout.js";

const ROW = 44;
const LANE = 13;
const LANES = 7; // further ones share the last
const SPARE = 8; // rows drawn above and below the screen

export class LayerGraph {
  constructor(place, chosen) {
    this.chosen = chosen;
    this.layers = [];
    this.selected = -1;
    this.find = element("input", { type: "search", placeholder: "Find a layer", "aria-label": "Find a layer" });
    this.find.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#findNext();
    });
    this.count = element("p", { class: "hint" });
    this.lines = svg("svg", { class: "lines", "aria-hidden": "true" });
    this.rows = element("div", { class: "rows" });
    this.canvas = element("div", { class: "graph" }, this.lines, this.rows);
    this.scroller = element("div", {
      class: "scroller", role: "listbox", tabIndex: 0, id: "layer-list",
      "aria-label": "Layers from the input down; arrow keys move, Enter opens",
    }, this.canvas);
    this.scroller.addEventListener("scroll", () => requestAnimationFrame(() => this.#draw()));
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#draw()).observe(this.scroller);
    place.append(this.find, this.count, this.scroller);
  }

  show(layers) {
    this.layers = [{ name: "input", operator: "input", shape: [], parents: [], reason: "" }, ...layers];
    this.plan = layout(layers);
    this.crossing = bucketed(this.plan.edges, this.layers.length);
    this.gutter = 14 + Math.min(this.plan.width, LANES) * LANE;
    this.canvas.style.height = `${ROW * this.layers.length}px`;
    this.canvas.style.setProperty("--gutter", `${this.gutter}px`);
    const unexplained = layers.filter((layer) => layer.reason).length;
    this.count.textContent = `${layers.length} layers` + (unexplained ? `, ${unexplained} without maps` : "");
    this.selected = -1;
    this.scroller.scrollTop = 0;
    this.#draw();
  }

  select(name) {
    this.selected = this.layers.findIndex((layer) => layer.name === name);
    this.#reveal();
    this.#draw();
  }

  #x(lane) {
    return 12 + Math.min(lane, LANES - 1) * LANE;
  }

  #draw() {
    if (!this.layers.length) return;
    const top = this.scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / ROW) - SPARE);
    const last = Math.min(this.layers.length - 1, Math.ceil((top + this.scroller.clientHeight) / ROW) + SPARE);
    const y = (row) => row * ROW + ROW / 2 - first * ROW;
    this.lines.style.top = this.rows.style.top = `${first * ROW}px`;
    this.lines.setAttribute("width", this.gutter);
    this.lines.setAttribute("height", Math.max(0, last - first + 1) * ROW);
    const drawn = [];
    for (const { from, to, lane } of this.crossing(first, last)) {
      const [x0, x1, x2] = [this.#x(this.plan.lanes[from]), this.#x(lane), this.#x(this.plan.lanes[to])];
      const start = Math.max(from, first - 2);
      const stop = Math.min(to, last + 2);
      const half = ROW / 2;
      const head = start === from ? `M${x0} ${y(from)}C${x0} ${y(from) + half} ${x1} ${y(from) + half} ${x1} ${y(from) + ROW}` : `M${x1} ${y(start)}`;
      const tail = stop === to ? `V${y(to) - ROW}C${x1} ${y(to) - half} ${x2} ${y(to) - half} ${x2} ${y(to)}` : `V${y(stop)}`;
      const path = to === from + 1 ? `M${x0} ${y(from)}L${x2} ${y(to)}` : head + tail;
      drawn.push(svg("path", { d: path }));
    }
    const rows = [];
    for (let i = first; i <= last; i++) {
      const layer = this.layers[i];
      const state = i === this.selected ? " selected" : "";
      const mark = layer.reason ? " unexplained" : "";
      drawn.push(svg("circle", { cx: this.#x(this.plan.lanes[i]), cy: y(i), r: 4.5, class: `dot${state}${mark}` }));
      rows.push(this.#row(layer, i, state + mark));
    }
    this.lines.replaceChildren(...drawn);
    this.rows.replaceChildren(...rows);
    if (this.selected >= 0) this.scroller.setAttribute("aria-activedescendant", `layer-${this.selected}`);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  #row(layer, i, state) {
    const detail = i === 0 ? "" : `${layer.operator} · ${shape(layer.shape)}`;
    const why = layer.reason ? `no maps: ${layer.reason}` : "";
    const row = element("div", {
      class: `row${state}`, role: "option", id: `layer-${i}`, title: [layer.name, detail, why].filter(Boolean).join("\n"),
      "aria-selected": String(i === this.selected), "aria-setsize": this.layers.length, "aria-posinset": i + 1,
    }, element("span", { class: "name" }, layer.name), element("span", { class: "detail" }, why || detail));
    row.addEventListener("click", () => this.#open(i));
    return row;
  }

  #key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    if (event.key in steps && this.layers.length) {
      event.preventDefault();
      this.selected = Math.max(0, Math.min(this.layers.length - 1, Math.max(this.selected, 0) + steps[event.key]));
      this.#reveal();
      this.#draw();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#open(this.selected);
    }
  }

  #open(i) {
    if (i < 0) return;
    this.selected = i;
    this.#draw();
    if (i > 0) this.chosen(this.layers[i].name);
  }

  // The layer of exactly this name, or else the next one whose name or operator holds the text.
  #findNext() {
    const wanted = this.find.value.trim().toLowerCase();
    if (!wanted) return;
    const count = this.layers.length;
    const exact = this.layers.findIndex((layer) => layer.name.toLowerCase() === wanted);
    let found = exact === this.selected ? -1 : exact;
    for (let k = 1; k <= count && found < 0; k++) {
      const i = (this.selected + k + count) % count;
      if (`${this.layers[i].name} ${this.layers[i].operator}`.toLowerCase().includes(wanted)) found = i;
    }
    if (found < 0) {
      this.count.textContent = `No layer is called “${this.find.value}”.`;
      return;
    }
    this.selected = found;
    this.#reveal();
    this.#open(found);
  }

  #reveal() {
    if (this.selected < 0) return;
    const top = this.selected * ROW;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop || top + ROW > scrollTop + clientHeight) {
      this.scroller.scrollTop = Math.max(0, top - clientHeight / 2);
    }
  }
}
