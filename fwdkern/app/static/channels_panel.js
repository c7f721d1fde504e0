// A layer's channels as a grid of feature maps, and the positions of the one that was chosen.

import * as colours from "./colours.js";
import { element } from "./dom.js";
import { number, ofScore, shape, signed } from "./format.js";

const SORTS = { relevance: "relevance to the class", activation: "activation", number: "number" };

export class ChannelsPanel {
  constructor(place, { sort, page, channel, position, whole }) {
    this.handlers = { channel, position, whole };
    this.title = element("p", { class: "layer-title" }, "Choose a layer in the graph.");
    this.reason = element("p", { class: "problem", hidden: true });
    this.sort = element("select", { id: "sort" }, ...Object.entries(SORTS).map(([value, label]) => element("option", { value }, label)));
    this.sort.addEventListener("change", () => sort(this.sort.value));
    this.before = element("button", { type: "button", "aria-label": "Previous page" }, "‹");
    this.after = element("button", { type: "button", "aria-label": "Next page" }, "›");
    this.before.addEventListener("click", () => page(this.page - 1));
    this.after.addEventListener("click", () => page(this.page + 1));
    this.where = element("span", { class: "hint" });
    this.bar = element("div", { class: "line", hidden: true },
      element("label", { class: "line" }, "Sort by", this.sort), element("span", { class: "line pager" }, this.before, this.where, this.after));
    this.grid = element("div", { class: "grid", role: "list", "aria-label": "Channels" });
    this.positions = new Positions(this.handlers);
    place.append(this.title, this.reason, this.bar, this.grid, this.positions.place);
  }

  clear(message) {
    this.title.textContent = message;
    this.bar.hidden = this.reason.hidden = this.positions.place.hidden = true;
    this.grid.replaceChildren();
  }

  show(layer, { arrays, about }, sort, classScore) {
    this.layer = layer;
    this.page = about.page;
    this.title.replaceChildren(element("strong", {}, layer.name), ` ${layer.operator}, ${shape(layer.shape)}`,
      element("span", { class: "hint" }, layer.rule ? ` rule: ${layer.rule}` : ""));
    this.reason.hidden = !about.reason;
    this.reason.textContent = about.reason ? `No shares of the class here: ${about.reason}` : "";
    this.bar.hidden = false;
    this.sort.value = sort;
    this.sort.options[0].disabled = !arrays.relevance;
    this.before.disabled = about.page === 0;
    this.after.disabled = about.page >= about.pages - 1;
    this.where.textContent = `page ${about.page + 1} of ${about.pages}, ${about.channels} channels`;
    const [count, height, width] = arrays.maps.shape;
    const strongest = colours.limit(arrays.maps.data);
    this.grid.classList.toggle("wide", height === 1 && width > 1);
    this.grid.classList.toggle("single", height * width === 1);
    const shares = arrays.relevance?.data;
    const most = shares ? Math.max(...shares.map(Math.abs)) : 0;
    const inPercent = classScore && ofScore(most, classScore);
    const told = (share) => (inPercent ? ofScore(share, classScore) : signed(share));
    this.grid.classList.toggle("broad", !inPercent);
    const cells = [];
    for (let k = 0; k < count; k++) {
      const channel = arrays.channel.data[k];
      const canvas = element("canvas", { "aria-hidden": "true" });
      colours.paint(canvas, arrays.maps.data.subarray(k * height * width, (k + 1) * height * width), height, width, strongest);
      const share = shares ? told(shares[k]) : "";
      const label = `Channel ${channel}, largest value ${number(arrays.activation.data[k])}${share ? `, ${share} of the class score` : ""}`;
      const cell = element("button", { type: "button", class: "cell", "aria-label": label, title: label },
        canvas, element("span", {}, `#${channel}`), element("span", { class: "share" }, share || number(arrays.activation.data[k])));
      cell.addEventListener("click", () => this.handlers.channel(channel));
      cell.dataset.channel = channel;
      cells.push(element("div", { role: "listitem" }, cell));
    }
    this.grid.replaceChildren(...cells);
    this.positions.place.hidden = true;
  }

  mark(channel) {
    for (const cell of this.grid.querySelectorAll(".cell")) {
      const own = cell.dataset.channel === String(channel);
      cell.classList.toggle("selected", own);
      cell.setAttribute("aria-pressed", String(own));
    }
  }
}

// One channel's values at its positions; the mouse or the arrow keys point at one of them.
class Positions {
  constructor({ position, whole }) {
    this.choose = position;
    this.canvas = element("canvas", { tabIndex: 0, role: "application", id: "positions" });
    this.cross = element("div", { class: "cross", hidden: true });
    this.map = element("div", { class: "map positions" }, this.canvas, this.cross);
    this.told = element("p", { class: "hint", "aria-live": "polite" });
    this.title = element("h3");
    this.kind = element("select", { "aria-label": "What the positions show" },
      element("option", { value: "values" }, "values"), element("option", { value: "shares" }, "shares of the class"));
    this.kind.addEventListener("change", () => this.#paint());
    this.whole = element("button", { type: "button", id: "channel-map" }, "Map of the whole channel");
    this.whole.addEventListener("click", () => whole());
    this.place = element("div", { class: "channel", hidden: true }, this.title,
      element("div", { class: "line" }, this.kind, this.whole), this.map, this.told);
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const part = (value, start, size, count) => Math.max(0, Math.min(count - 1, Math.floor(((value - start) / size) * count)));
      return [part(event.clientY, box.top, box.height, this.height), part(event.clientX, box.left, box.width, this.width)];
    };
    this.canvas.addEventListener("mousemove", (event) => this.#tell(...at(event)));
    this.canvas.addEventListener("mouseleave", () => this.#tell(this.row, this.column));
    this.canvas.addEventListener("click", (event) => {
      [this.row, this.column] = at(event);
      this.#point();
      this.choose(this.row, this.column);
    });
    this.canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      if (event.key in moves) {
        event.preventDefault();
        this.row = Math.max(0, Math.min(this.height - 1, this.row + moves[event.key][0]));
        this.column = Math.max(0, Math.min(this.width - 1, this.column + moves[event.key][1]));
        this.#point();
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        this.choose(this.row, this.column);
      }
    });
  }

  show(layer, answer, row, column, input) {
    this.answer = answer;
    this.input = input;
    [this.height, this.width] = answer.arrays.values.shape;
    this.place.hidden = false;
    this.title.textContent = `Channel ${answer.about.channel} of ${layer.name}`;
    this.kind.options[1].disabled = !answer.arrays.shares;
    if (!answer.arrays.shares) this.kind.value = "values";
    this.whole.hidden = layer.shape.length !== 3;
    const values = answer.arrays.values.data;
    let strongest = 0;
    values.forEach((value, i) => {
      if (Math.abs(value) > Math.abs(values[strongest])) strongest = i;
    });
    this.row = row ?? Math.floor(strongest / this.width);
    this.column = column ?? strongest % this.width;
    this.canvas.setAttribute("aria-label", `Positions of channel ${answer.about.channel}, ${this.height} by ${this.width}: `
      + "arrow keys move, Enter shows the unit");
    this.map.style.aspectRatio = `${this.width} / ${this.height}`;
    this.map.classList.toggle("flat", this.height === 1);
    this.#paint();
    this.#point();
  }

  #shown() {
    return this.answer.arrays[this.kind.value].data;
  }

  #paint() {
    colours.paint(this.canvas, this.#shown(), this.height, this.width, colours.limit(this.#shown(), 1));
    this.#tell(this.row, this.column);
  }

  #point() {
    const place = { left: this.column / this.width, top: this.row / this.height, width: 1 / this.width, height: 1 / this.height };
    for (const [side, part] of Object.entries(place)) this.cross.style[side] = `${100 * part}%`;
    this.cross.hidden = false;
    this.#tell(this.row, this.column);
  }

  #tell(row, column) {
    const i = row * this.width + column;
    const { values, shares } = this.answer.arrays;
    const word = this.input.tokens && this.width === this.input.tokens.length ? ` “${this.input.tokens[column]}”` : "";
    const share = shares ? `, brings ${signed(shares.data[i])} to the class` : "";
    this.told.textContent = `row ${row}, column ${column}${word}: ${number(values.data[i])}${share}. Click, or press Enter, for this unit.`;
  }
}
