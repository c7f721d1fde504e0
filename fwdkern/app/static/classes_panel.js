// The classes with their probabilities, and the maps of one class: forward relevance and other methods side by side.

import { element } from "./dom.js";
import { className, number, percent, signed } from "./format.js";
import { mapView, strength } from "./map_view.js";

const SHOWN = 6;

export class ClassesPanel {
  constructor(place, { choose, methodsChanged, run }) {
    this.handlers = { choose, methodsChanged, run };
    this.list = element("div", { class: "class-list", role: "radiogroup", "aria-label": "Class to explain" });
    this.search = element("input", { type: "search", placeholder: "Find a class", "aria-label": "Find a class by name or number" });
    this.search.addEventListener("input", () => this.#list());
    this.chooser = element("fieldset", { class: "methods" }, element("legend", {}, "Methods side by side"));
    this.maps = element("div", { class: "maps" });
    this.side = element("div", { class: "class-side" }, this.list, this.search, this.chooser);
    this.empty = element("p", { class: "hint" }, "Choose an input to see its classes.");
    this.content = element("div", { class: "class-content", hidden: true }, this.side, this.maps);
    place.append(this.empty, this.content);
    this.boxes = new Map();
  }

  offer(methods) {
    for (const method of methods) {
      const box = element("input", { type: "checkbox", value: method.name });
      box.addEventListener("change", () => this.handlers.methodsChanged(this.chosen()));
      const parameters = new Map();
      const form = element("form", { class: "parameters", hidden: true });
      for (const parameter of method.parameters) {
        const input = parameter.kind === "bool"
          ? element("input", { type: "checkbox", checked: parameter.default })
          : element("input", { type: parameter.kind === "layer" ? "text" : "number", step: "any", value: parameter.default });
        if (parameter.kind === "layer") input.placeholder = "chosen by the method";
        else if (parameter.kind !== "bool") input.value = String(Number(Number(parameter.default).toPrecision(4)));
        parameters.set(parameter.name, { input, ...parameter, shown: input.value });
        form.append(element("label", { class: "field" }, parameter.name.replaceAll("_", " "), input));
      }
      form.append(element("button", {}, "Apply"));
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        box.checked = true;
        this.handlers.methodsChanged(this.chosen());
        this.handlers.run(method.name);
      });
      const more = element("button", { type: "button", class: "quiet", "aria-expanded": "false", hidden: !method.parameters.length, "aria-label": `Parameters of ${method.label}` }, "⋯");
      more.addEventListener("click", () => {
        form.hidden = !form.hidden;
        more.setAttribute("aria-expanded", String(!form.hidden));
      });
      const text = method.slow ? `${method.label} (slow)` : method.label;
      this.chooser.append(element("div", { class: "method" }, element("label", {}, box, text), more, form));
      this.boxes.set(method.name, { box, parameters, label: method.label });
    }
  }

  chosen() {
    return [...this.boxes].filter(([, { box }]) => box.checked).map(([name]) => name);
  }

  check(names) {
    for (const [name, { box }] of this.boxes) box.checked = names.includes(name);
  }

  parameters(name) {
    const values = {};
    for (const [key, { input, kind, shown }] of this.boxes.get(name).parameters) {
      if (kind === "bool") values[key] = input.checked;
      else if (input.value !== shown && input.value !== "") values[key] = kind === "layer" ? input.value : Number(input.value);
    }
    return values;
  }

  clear() {
    this.content.hidden = true;
    this.empty.hidden = false;
  }

  // input: the answer to "look"; target: the chosen class or null for the top one.
  show(network, input, target) {
    this.network = network;
    this.input = input;
    this.target = target;
    this.content.hidden = false;
    this.empty.hidden = true;
    this.chooser.hidden = network.reads === "text";
    this.search.hidden = (input.scores?.data.length ?? 0) <= SHOWN;
    this.cards = new Map();
    this.maps.replaceChildren();
    this.#list();
  }

  showMap(kind, title, { arrays, about }) {
    const relevance = kind === "relevance";
    const strongest = relevance ? null : Math.max(...arrays.map.data, 0) || strength(arrays.map);
    const view = mapView(arrays.map, this.input, `${title}: map over the input`, null, strongest);
    const told = relevance
      ? `score ${number(about.value)}, of which biases ${number(about.bias)}; completeness error ${number(Math.abs(about.delta))}`
      : about.layer ? `at layer ${about.layer}` : "";
    this.#card(kind, title, view, element("p", { class: "hint" }, told));
  }

  showProblem(kind, title, message) {
    this.#card(kind, title, element("p", { class: "problem" }, message));
  }

  showWaiting(kind, title) {
    this.#card(kind, title, element("p", { class: "hint waiting" }, "computing …"));
  }

  removeMap(kind) {
    this.cards?.get(kind)?.remove();
    this.cards?.delete(kind);
  }

  label(name) {
    return this.boxes.get(name).label;
  }

  #card(kind, title, ...content) {
    const card = element("figure", { class: "card-map", id: `map-${kind}` }, element("figcaption", {}, title), ...content);
    if (this.cards.has(kind)) this.cards.get(kind).replaceWith(card);
    else this.maps.append(card);
    this.cards.set(kind, card);
  }

  #list() {
    const scores = this.input?.scores?.data;
    if (!scores) {
      this.list.replaceChildren(element("p", { class: "hint" }, "This network returns no class scores."));
      return;
    }
    const names = this.network.classNames;
    const wanted = this.search.value.trim().toLowerCase();
    const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
    const top = order[0];
    const chosen = this.target ?? top;
    let shown = order.filter((i) => !wanted || `${className(names, i)} ${names?.[i] ?? ""}`.toLowerCase().includes(wanted)).slice(0, SHOWN);
    if (!wanted && !shown.includes(chosen)) shown = [...shown.slice(0, SHOWN - 1), chosen];
    this.list.replaceChildren(...shown.map((i) => this.#class(i, className(names, i), i === chosen, i === top)));
    if (!shown.length) this.list.append(element("p", { class: "hint" }, "No class is called so."));
  }

  #class(index, name, chosen, top) {
    const probability = this.input.probabilities.data[index];
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${100 * probability}%`;
    const radio = element("input", { type: "radio", name: "class", value: index, checked: chosen });
    radio.addEventListener("change", () => this.handlers.choose(top ? null : index));
    return element("label", { class: `class${chosen ? " selected" : ""}`, title: `score ${signed(this.input.scores.data[index])}` },
      radio, element("span", { class: "name" }, name), element("span", { class: "value" }, percent(probability)), bar);
  }
}
