// Which network is open, and how to open another one.

import { element, fileButton } from "./dom.js";

export class NetworkPanel {
  constructor(place, { choose, upload, preprocess }) {
    this.handlers = { choose, upload };
    this.choice = element("select", { id: "network-choice", "aria-label": "Network" });
    this.choice.addEventListener("change", () => this.#chosen());
    this.name = element("input", { type: "text", placeholder: "resnet18", "aria-label": "Name of the network" });
    this.named = element("form", { class: "line", hidden: true }, this.name, element("button", {}, "Open"));
    this.named.addEventListener("submit", (event) => {
      event.preventDefault();
      choose(this.choice.value + this.name.value.trim());
    });
    this.architecture = element("input", {
      type: "text", value: "digits", id: "architecture", "aria-label": "Architecture that uploaded weights belong to",
    });
    const files = fileButton("Upload a network", ".onnx,.safetensors", false, ([file]) => upload(file, this.architecture.value.trim()));
    files.id = "upload-network";
    this.about = element("p", { class: "hint", id: "network-about" });
    this.preprocessing = new Preprocessing(preprocess);
    place.append(
      this.choice, this.named, files,
      element("details", {}, element("summary", {}, "Which files?"),
        element("p", { class: "hint" }, "ONNX files, or weights as .safetensors with the name of their architecture. "
          + "Pickled files (.pt, .pth, .pt2) are refused, because opening one runs whatever code it holds."),
        element("label", { class: "field" }, "Architecture of weights", this.architecture)),
      this.about, this.preprocessing.place);
  }

  offer(networks) {
    this.networks = networks;
    this.choice.replaceChildren(...networks.map(({ name, label }) => element("option", { value: name }, label)));
    this.own = element("option", { value: "", hidden: true }, "Uploaded");
    this.choice.append(this.own);
  }

  show(network) {
    const known = this.networks.some(({ name }) => name === network.id);
    this.own.hidden = known;
    this.own.textContent = network.label;
    this.choice.value = known ? network.id : "";
    this.named.hidden = true;
    const parts = [`${network.label}: reads ${network.reads}, ${network.layers.length} layers`];
    if (network.classes) parts.push(`${network.classes} classes`);
    if (!network.trained) parts.push("random weights, nothing was trained");
    this.about.textContent = `${parts.join(", ")}. ${network.note ? `${network.note[0].toUpperCase()}${network.note.slice(1)}.` : ""}`;
    this.preprocessing.show(network.preprocessing);
  }

  #chosen() {
    const name = this.choice.value;
    this.named.hidden = !name.endsWith(":");
    if (this.named.hidden) this.handlers.choose(name);
    else this.name.focus();
  }
}

class Preprocessing {
  constructor(changed) {
    const field = (label, hint) => {
      const input = element("input", { type: "text", placeholder: hint });
      return [input, element("label", { class: "field" }, label, input)];
    };
    const rows = {};
    const labels = {
      resize: ["Shorter side to", "pixels, or empty"], size: ["Exact size", "height × width, or empty"],
      crop: ["Centre crop", "height × width, or empty"], mean: ["Minus mean", "0.5 or 0.4, 0.5, 0.6"],
      std: ["Divided by std", "1 or 0.2, 0.2, 0.2"],
    };
    this.inputs = {};
    for (const [name, [label, hint]] of Object.entries(labels)) [this.inputs[name], rows[name]] = field(label, hint);
    this.text = element("p", { class: "hint", id: "preprocessing-text" });
    const form = element("form", {}, ...Object.values(rows), element("button", {}, "Apply"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      changed(this.#steps());
    });
    this.place = element("details", { id: "preprocessing" }, element("summary", {}, "Preprocessing"), this.text, form);
  }

  show(known) {
    this.place.hidden = known === null;
    if (known === null) return;
    this.text.textContent = known.text;
    this.inputs.resize.value = known.resize ?? "";
    for (const name of ["size", "crop"]) this.inputs[name].value = known[name]?.join(" × ") ?? "";
    for (const name of ["mean", "std"]) this.inputs[name].value = known[name].join(", ");
  }

  #steps() {
    const list = (name, separator) => this.inputs[name].value.split(separator).map((part) => part.trim()).filter(Boolean).map(Number);
    const pair = (name) => {
      const sides = list(name, /[x×]/i);
      return sides.length ? [sides[0], sides[sides.length - 1]] : null;
    };
    const [resize = null] = list("resize", ",");
    return { resize, size: pair("size"), crop: pair("crop"), mean: list("mean", ","), std: list("std", ",") };
  }
}
