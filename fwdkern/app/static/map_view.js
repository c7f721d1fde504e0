// One map over the input: pixels over the faded picture with a frame, or words on their colours.

import * as colours from "./colours.js";
import { element } from "./dom.js";
import { signed } from "./format.js";

// map: {shape, data}; input: {picture} or {tokens, known}; frame: y0, x0, y1, x1 in pixels, or null.
export function mapView(map, input, label, frame = null, strongest = null) {
  return input.tokens ? words(map, input, label, strongest) : pixels(map, input, label, frame, strongest);
}

export function strength(map, frame = null) {
  return colours.limit(colours.inside(map.data, map.shape[1] ?? map.data.length, map.shape.length > 1 ? frame : null));
}

function pixels(map, input, label, frame, strongest) {
  const [height, width] = map.shape.length > 1 ? map.shape : [1, map.shape[0]];
  const canvas = element("canvas", { role: "img", "aria-label": label });
  const picture = input.picture?.shape[0] === height && input.picture?.shape[1] === width ? input.picture.data : null;
  colours.paint(canvas, map.data, height, width, strongest ?? strength(map, frame), picture);
  const made = element("div", { class: "map" }, canvas);
  made.style.aspectRatio = `${width} / ${height}`;
  if (frame) {
    const [y0, x0, y1, x1] = frame;
    const box = element("div", { class: "frame", title: `Receptive field: rows ${y0} to ${y1 - 1}, columns ${x0} to ${x1 - 1}` });
    const place = { left: x0 / width, top: y0 / height, width: (x1 - x0) / width, height: (y1 - y0) / height };
    for (const [side, part] of Object.entries(place)) box.style[side] = `${100 * part}%`;
    made.append(box);
  }
  return made;
}

function words(map, input, label, strongest) {
  const limit = strongest ?? Math.max(...Array.from(map.data, Math.abs));
  const made = element("p", { class: "words", role: "img", "aria-label": label });
  input.tokens.forEach((token, i) => {
    const value = map.data[i] ?? 0;
    const word = element("span", { class: input.known[i] ? "word" : "word unknown", title: signed(value) },
      token, element("small", {}, value.toFixed(2)));
    if (limit > 0 && Math.abs(value) > 0.04 * limit) {
      const { background, ink } = colours.css(value / limit);
      word.style.background = background;
      word.style.color = ink;
    }
    made.append(word);
  });
  return made;
}
