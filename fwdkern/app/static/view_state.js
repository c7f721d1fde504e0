// What is being looked at, as a link says it.

const NUMBERS = ["target", "channel", "row", "column", "page"];
const NAMES = ["network", "input", "layer", "sort", "methods"];

export const EMPTY = {
  network: null, input: null, target: null, layer: null, channel: null, row: null, column: null, page: 0,
  sort: "relevance", methods: null,
};

export function fromHash(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const view = { ...EMPTY };
  for (const name of NAMES) if (given.has(name)) view[name] = given.get(name);
  for (const name of NUMBERS) {
    const value = Number(given.get(name));
    if (given.has(name) && Number.isInteger(value) && value >= 0) view[name] = value;
  }
  return view;
}

export function toHash(view) {
  const parts = new URLSearchParams();
  for (const name of [...NAMES, ...NUMBERS]) {
    if (view[name] !== null && view[name] !== "" && view[name] !== EMPTY[name]) parts.set(name, view[name]);
  }
  return `#${parts}`;
}
