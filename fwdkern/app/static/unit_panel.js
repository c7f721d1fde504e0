// One unit, or a whole channel: its map over the input, its figures, what feeds it, and the files to take away.

import { download } from "./download.js";
import { element } from "./dom.js";
import { number, ofScore, signed } from "./format.js";
import { mapView } from "./map_view.js";
import * as npy from "./npy.js";
import * as safetensors from "./safetensors.js";

export class UnitPanel {
  constructor(place, { walk }) {
    this.walk = walk;
    this.trail = [];
    this.content = element("div", { class: "unit-content" });
    this.empty = element("p", { class: "hint" }, "Choose a position of a channel to see what that unit saw.");
    place.append(this.empty, this.content);
  }

  clear() {
    this.trail = [];
    this.empty.hidden = false;
    this.content.replaceChildren();
  }

  showChannel(answer, input) {
    const { about } = answer;
    const title = `Channel ${about.channel} of ${about.layer}, sum over all positions`;
    this.#show(title, `${about.layer}-channel-${about.channel}`, answer, input, null, [
      ["sum of its values", number(about.value)], ["of which biases", number(about.bias)],
      ["completeness error", number(Math.abs(about.delta))],
    ]);
  }

  showUnit(answer, input) {
    const { about } = answer;
    const here = this.trail.findIndex((unit) => same(unit, about));
    this.trail = here >= 0 ? this.trail.slice(0, here + 1) : [...this.trail, about].slice(-12);
    const [y0, x0, y1, x1] = about.field;
    const sees = input.tokens ? `words ${x0 + 1} to ${x1}` : `rows ${y0} to ${y1 - 1}, columns ${x0} to ${x1 - 1}`;
    const part = about.share === null ? null : ofScore(about.share, about.classScore);
    const share = about.share === null ? "not known"
      : `${signed(about.share)}${part ? `, ${part}` : ""} of the score ${number(about.classScore)}`;
    this.#show(name(about), `${about.layer}-${about.index.join("-")}`, answer, input, input.tokens ? null : about.field, [
      ["value", number(about.value)], ["of which biases", number(about.bias)],
      ["completeness error", number(Math.abs(about.delta))], ["share of the class", share],
      ["receptive field", x1 > x0 ? sees : "it sees nothing of the input"],
    ]);
    this.content.append(this.#below(about, input));
    if (this.trail.length > 1) this.content.prepend(this.#trail());
  }

  #show(title, stem, answer, input, frame, figures) {
    this.empty.hidden = true;
    const { map } = answer.arrays;
    const view = mapView(map, input, `${title}: map over the input`, frame);
    const list = element("dl", { class: "figures" });
    for (const [key, value] of figures) list.append(element("dt", {}, key), element("dd", {}, value));
    const file = stem.replace(/[^\w.-]+/g, "_");
    const canvas = view.querySelector("canvas");
    const save = (text, make) => {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", make);
      return button;
    };
    const files = element("div", { class: "line downloads" }, element("span", { class: "hint" }, "Take away"));
    if (canvas) files.append(save("PNG", () => enlarged(canvas, frame).toBlob((blob) => download(blob, `${file}.png`))));
    files.append(save(".npy", () => download(npy.write(map), `${file}.npy`)),
      save(".safetensors", () => download(safetensors.write("map", map, answer.about), `${file}.safetensors`)));
    this.content.replaceChildren(element("h3", { id: "unit-name" }, title), view, list, files);
  }

  #below(about, input) {
    const { units, count, sum, bias } = about.below;
    const most = Math.max(...units.map((unit) => Math.abs(unit.share)), Math.abs(bias), Number.MIN_VALUE);
    const row = (label, place, share, unit) => {
      const bar = element("span", { class: `share-bar${share < 0 ? " negative" : ""}`, "aria-hidden": "true" });
      bar.style.width = `${(100 * Math.abs(share)) / most}%`;
      const inner = [element("span", { class: "name" }, label), element("span", { class: "place" }, place),
        element("span", { class: "value" }, signed(share)), bar];
      if (!unit || unit.layer === "input") return element("li", { class: "below" }, ...inner);
      const button = element("button", { type: "button", class: "below", title: name(unit), "aria-label": `${name(unit)}, brings ${signed(share)}` }, ...inner);
      button.addEventListener("click", () => this.walk(unit));
      return element("li", {}, button);
    };
    const rows = units.map((unit) => (unit.layer === "input" && input.tokens
      ? row(`word “${input.tokens[unit.channel]}”`, "", unit.share, unit)
      : row(unit.layer, `#${unit.channel} at ${unit.row}, ${unit.column}`, unit.share, unit)));
    if (bias) rows.push(row("its own bias", "", bias, null));
    const rest = about.value - bias - units.reduce((total, unit) => total + unit.share, 0);
    const told = count > units.length ? `${count} units feed it; those not listed bring ${signed(rest)} together.`
      : count ? `${count} ${count === 1 ? "unit feeds" : "units feed"} it.` : "No unit feeds it: it is switched off at this input.";
    return element("div", {}, element("h4", {}, "Strongest contributing units one layer down"),
      element("p", { class: "hint" }, told), element("ol", { class: "contributors" }, ...rows));
  }

  #trail() {
    const made = element("nav", { class: "trail", "aria-label": "Units on the way here" });
    this.trail.slice(0, -1).forEach((unit) => {
      const back = element("button", { type: "button", class: "quiet", title: name(unit) }, `${unit.layer} #${unit.channel}`);
      back.addEventListener("click", () => this.walk(unit));
      made.append(back, element("span", { "aria-hidden": "true" }, " › "));
    });
    return made;
  }
}

const same = (a, b) => a.layer === b.layer && a.channel === b.channel && a.row === b.row && a.column === b.column;

function name({ layer, channel, row, column }) {
  return `${layer}, channel ${channel}, row ${row}, column ${column}`;
}

// A picture of at least 512 pixels, with hard edges and the frame drawn in.
function enlarged(canvas, frame) {
  const scale = Math.max(1, Math.ceil(512 / Math.max(canvas.width, canvas.height)));
  const made = element("canvas", { width: canvas.width * scale, height: canvas.height * scale });
  const context = made.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, made.width, made.height);
  if (frame) {
    const [y0, x0, y1, x1] = frame.map((side) => side * scale);
    context.strokeStyle = "#111";
    context.lineWidth = 2;
    context.strokeRect(x0 + 1, y0 + 1, x1 - x0 - 2, y1 - y0 - 2);
  }
  return made;
}
