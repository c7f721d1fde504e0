// The package's one colour scale: blue is negative, white is zero, red is positive.

let stops = [[0, 0, 255], [255, 255, 255], [255, 0, 0]];

export function setStops(given) {
  stops = given;
}

function colour(scaled, out, at) {
  const place = ((Math.max(-1, Math.min(1, scaled)) + 1) / 2) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  const part = place - low;
  for (let c = 0; c < 3; c++) out[at + c] = stops[low][c] + part * (stops[low + 1][c] - stops[low][c]);
}

export function css(scaled) {
  const rgb = [0, 0, 0];
  colour(scaled, rgb, 0);
  const bright = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
  return { background: `rgb(${rgb.map(Math.round).join(",")})`, ink: bright > 128 ? "#1a1a1a" : "#ffffff" };
}

// The value of the strongest colour: nearly all magnitudes, over those that are not zero, lie below it.
export function limit(values, share = 0.995) {
  const sizes = Array.from(values, Math.abs).filter((size) => size > 0).sort((a, b) => a - b);
  return sizes.length ? sizes[Math.min(sizes.length - 1, Math.floor(share * sizes.length))] : 0;
}

// The part of a map [height, width] inside a frame y0, x0, y1, x1.
export function inside(values, width, frame) {
  if (!frame) return values;
  const [y0, x0, y1, x1] = frame;
  const found = [];
  for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) found.push(values[y * width + x]);
  return found;
}

// Paint values [height, width] at one canvas pixel each, over a faded grey copy of a picture [height, width, 3] if given.
export function paint(canvas, values, height, width, strongest, picture = null) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    colour(strongest ? values[i] / strongest : 0, image.data, 4 * i);
    if (picture) {
      const grey = (0.299 * picture[3 * i] + 0.587 * picture[3 * i + 1] + 0.114 * picture[3 * i + 2]) / 255;
      for (let c = 0; c < 3; c++) image.data[4 * i + c] *= 0.75 + 0.25 * grey;
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

export function paintPicture(canvas, picture, height, width) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    image.data.set(picture.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
