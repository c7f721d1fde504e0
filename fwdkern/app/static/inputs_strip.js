// The inputs that were added, and how to add more: files, the built-in samples, sentences.

import { paintPicture } from "./colours.js";
import { element, fileButton } from "./dom.js";

export class InputsStrip {
  constructor(place, { addImages, addSamples, addText, choose, remove }) {
    this.handlers = { choose, remove };
    this.items = element("div", { class: "strip", role: "listbox", "aria-label": "Inputs", "aria-orientation": "horizontal" });
    this.empty = element("p", { class: "hint" });
    const files = fileButton("Add images", "image/png,image/jpeg,image/webp", true, addImages);
    files.id = "add-images";
    this.samples = element("button", { type: "button", id: "add-samples" }, "Add sample digits");
    this.samples.addEventListener("click", addSamples);
    this.text = element("input", { type: "text", id: "sentence", maxLength: 4000, placeholder: "Type a sentence", "aria-label": "Sentence" });
    this.sentence = element("form", { class: "line grow" }, this.text, element("button", {}, "Add"));
    this.sentence.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.text.value.trim()) addText(this.text.value);
    });
    this.images = element("div", { class: "line" }, files, this.samples, element("span", { class: "hint" }, "or drop PNG, JPEG or WebP files here"));
    place.append(this.items, this.empty, this.images, this.sentence);
    for (const kind of ["dragenter", "dragover"]) {
      place.addEventListener(kind, (event) => {
        event.preventDefault();
        place.classList.add("dropping");
      });
    }
    place.addEventListener("dragleave", () => place.classList.remove("dropping"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      place.classList.remove("dropping");
      addImages([...event.dataTransfer.files]);
    });
  }

  show(inputs, reads, selected) {
    this.images.hidden = reads === "text";
    this.sentence.hidden = reads !== "text";
    const fitting = inputs.filter(({ kind }) => (kind === "text") === (reads === "text"));
    this.empty.hidden = fitting.length > 0;
    this.empty.textContent = reads === "text" ? "No sentence yet: type one below." : "No image yet: add one below.";
    this.items.replaceChildren(...fitting.map((input) => this.#item(input, input.id === selected)));
  }

  #item(input, selected) {
    const shown = input.picture
      ? element("canvas", { "aria-hidden": "true" })
      : element("span", { class: "sentence" }, input.text || input.label);
    if (input.picture) paintPicture(shown, input.picture.data, input.picture.shape[0], input.picture.shape[1]);
    const parts = [shown];
    if (input.picture) parts.push(element("span", { class: "label" }, input.label));
    const choose = element("button", {
      type: "button", class: "choose", role: "option", "aria-selected": String(selected), title: input.label,
      "aria-label": input.text || input.label,
    }, ...parts);
    choose.addEventListener("click", () => this.handlers.choose(input.id));
    const remove = element("button", { type: "button", class: "remove", "aria-label": `Remove ${input.label}` }, "×");
    remove.addEventListener("click", () => this.handlers.remove(input.id));
    return element("div", { class: `item${selected ? " selected" : ""}` }, choose, remove);
  }
}
