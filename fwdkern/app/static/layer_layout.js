// Where a network's layers and the lines between them go: one row a layer in order of execution, lanes for branches.

// layers: [{name, parents}], "input" being what the first ones read. Returns rows (name, lane) and edges (from, to, lane).
export function layout(layers) {
  const names = ["input", ...layers.map((layer) => layer.name)];
  const row = new Map(names.map((name, i) => [name, i]));
  const children = names.map(() => []);
  layers.forEach((layer, i) => {
    for (const parent of layer.parents) if (row.has(parent)) children[row.get(parent)].push(i + 1);
  });
  const taken = []; // lane -> whether a line runs in it
  const arriving = names.map(() => []); // row -> lanes of the lines that end there
  const lanes = [];
  const edges = [];
  const free = () => {
    const lane = taken.indexOf(false);
    return lane < 0 ? taken.length : lane;
  };
  for (let i = 0; i < names.length; i++) {
    for (const lane of arriving[i]) taken[lane] = false;
    const own = arriving[i].length ? Math.min(...arriving[i]) : free();
    lanes.push(own);
    taken[own] = false;
    // The line to the next reader goes straight on, those to later ones go around.
    for (const child of children[i].sort((a, b) => a - b)) {
      const lane = taken[own] ? free() : own;
      taken[lane] = true;
      arriving[child].push(lane);
      edges.push({ from: i, to: child, lane });
    }
  }
  return { names, lanes, edges, width: Math.max(1, taken.length) };
}

// Edges by the stretch of rows that they cross, so that a screenful can be found among tens of thousands.
export function bucketed(edges, rows, size = 64) {
  const buckets = Array.from({ length: Math.ceil(rows / size) }, () => []);
  for (const edge of edges) {
    for (let b = Math.floor(edge.from / size); b <= Math.floor(edge.to / size); b++) buckets[b].push(edge);
  }
  return (first, last) => {
    const found = new Set();
    for (let b = Math.floor(first / size); b <= Math.min(Math.floor(last / size), buckets.length - 1); b++) {
      for (const edge of buckets[b]) if (edge.to >= first && edge.from <= last) found.add(edge);
    }
    return found;
  };
}
