// The page: what happens when something is chosen, and in which order.

import { Activity } from "./activity.js";
import * as api from "./api.js";
import { ChannelsPanel } from "./channels_panel.js";
import { ClassesPanel } from "./classes_panel.js";
import * as colours from "./colours.js";
import { download } from "./download.js";
import { InputsStrip } from "./inputs_strip.js";
import { LayerGraph } from "./layer_graph.js";
import { NetworkPanel } from "./network_panel.js";
import * as saved from "./saved_view.js";
import { UnitPanel } from "./unit_panel.js";
import { EMPTY, fromHash, toHash } from "./view_state.js";

const at = (id) => document.getElementById(id);
const activity = new Activity(at("status"), at("progress"), at("cancel"));
let view = { ...EMPTY };
let server; // what the server told when the page began
let network = null;
let inputs = []; // {id, label, kind, number, text, and once looked at: picture or tokens, scores}
let input = null; // the chosen one

const networkPanel = new NetworkPanel(at("network"), {
  choose: guarded((name) => openNetwork(() => api.chooseNetwork(name))),
  upload: guarded((file, architecture) => openNetwork(() => api.uploadNetwork(file, architecture))),
  preprocess: guarded(changePreprocessing),
});
const strip = new InputsStrip(at("inputs"), {
  addImages: guarded(async (files) => {
    for (const file of files) await keep("image", await api.addImage(file, file.name));
  }),
  addSamples: guarded(addSamples),
  addText: guarded(async (text) => keep("text", await api.addText(text), { text })),
  choose: guarded((id) => chooseInput(id)),
  remove: guarded(removeInput),
});
const graph = new LayerGraph(at("layers"), guarded((name) => {
  unitPanel.clear();
  return openLayer({ layer: name, page: 0, channel: null, row: null, column: null });
}));
const classesPanel = new ClassesPanel(at("classes"), {
  choose: guarded(chooseClass),
  methodsChanged: guarded(chooseMethods),
  run: guarded(runMethod),
});
const channelsPanel = new ChannelsPanel(at("channels"), {
  sort: guarded((sort) => openLayer({ sort, page: 0 })),
  page: guarded((page) => openLayer({ page })),
  channel: guarded((channel) => {
    unitPanel.clear();
    return openChannel({ channel, row: null, column: null });
  }),
  position: guarded((row, column) => {
    unitPanel.clear();
    return openUnit({ row, column });
  }),
  whole: guarded(showWholeChannel),
});
const unitPanel = new UnitPanel(at("unit"), {
  walk: guarded(({ layer, channel, row, column }) => walk({ layer, channel, row, column })),
});

// Handlers end here: an answer that nobody waits for any more is no problem, all else is told.
function guarded(handler) {
  return async (...given) => {
    try {
      at("problem").hidden = true;
      await handler(...given);
    } catch (error) {
      if (error.name !== "AbortError") tell(error.message);
    }
  };
}

function tell(message) {
  at("problem").querySelector("p").textContent = message;
  at("problem").hidden = false;
}

function change(part) {
  view = { ...view, ...part };
  history.replaceState(null, "", toHash(view));
}

const layerOf = (name) => network.layers.find((layer) => layer.name === name);

async function openNetwork(open) {
  showNetwork(await open());
  change({ ...EMPTY, network: network.id, sort: view.sort, methods: view.methods });
  await beginWithInputs();
}

function showNetwork(opened) {
  network = opened;
  networkPanel.show(network);
  graph.show(network.layers);
  channelsPanel.clear("Choose a layer in the graph.");
  unitPanel.clear();
  classesPanel.clear();
  for (const known of inputs) known.looked = false;
  input = null;
}

const fitting = () => inputs.filter(({ kind }) => (kind === "text") === (network.reads === "text"));

// A newcomer sees something at once: the built-in networks begin with samples.
async function beginWithInputs(wanted = null) {
  if (!fitting().length && network.id === "digits") await addSamples();
  if (!fitting().length && network.reads === "text") {
    for (const text of server.sentences) await keep("text", await api.addText(text), { text }, false);
  }
  for (const known of fitting()) if (!known.looked) await look(known);
  strip.show(inputs, network.reads, null);
  const first = fitting().find(({ id }) => id === wanted) ?? fitting()[0];
  if (first) await chooseInput(first.id);
}

async function addSamples() {
  const begins = !fitting().length;
  for (const { number, label } of server.samples) {
    await keep("sample", await api.addSample(number), { number, label }, false);
  }
  if (begins) await chooseInput(fitting()[0].id);
}

async function keep(kind, { arrays, about }, more = {}, choose = true) {
  const known = inputs.find(({ id }) => id === about.id);
  const made = { kind, ...more, ...about, ...arrays, looked: true };
  if (known) Object.assign(known, made);
  else inputs.push(made);
  strip.show(inputs, network.reads, input?.id);
  if (choose) await chooseInput(about.id);
}

async function look(known) {
  const { arrays, about } = await api.ask(known.id, "look", {}, `look ${known.id}`);
  Object.assign(known, about, arrays, { looked: true });
}

async function changePreprocessing(steps) {
  const changed = await api.preprocess(steps);
  network.preprocessing = changed.preprocessing;
  networkPanel.show(network);
  for (const known of fitting()) await look(known);
  activity.say("Preprocessing changed");
  if (input) await chooseInput(input.id);
}

async function removeInput(id) {
  await api.remove(id);
  inputs = inputs.filter((known) => known.id !== id);
  const gone = input?.id === id;
  if (gone) input = null;
  strip.show(inputs, network.reads, input?.id);
  if (!gone) return;
  if (fitting().length) return chooseInput(fitting()[0].id);
  change({ input: null });
  classesPanel.clear();
  channelsPanel.clear("Add an input first.");
  unitPanel.clear();
}

async function chooseInput(id) {
  input = inputs.find((known) => known.id === id);
  if (!input.looked) await look(input);
  change({ input: id, target: view.target !== null && view.target < (network.classes || 0) ? view.target : null });
  strip.show(inputs, network.reads, id);
  await showClass();
  await showAgain();
}

async function chooseClass(target) {
  change({ target });
  await showClass();
  await showAgain();
}

async function showClass() {
  classesPanel.show(network, input, view.target);
  if (!input.scores) return;
  classesPanel.showWaiting("relevance", "Forward relevance, pixel by pixel");
  const title = network.reads === "text" ? "Forward relevance, word by word" : "Forward relevance, pixel by pixel";
  try {
    classesPanel.showMap("relevance", title, await api.ask(input.id, "class_map", { target: view.target }));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    classesPanel.showProblem("relevance", title, error.message);
  }
  const chosen = (view.methods ?? "").split(",").filter(Boolean);
  classesPanel.check(chosen);
  if (network.reads === "images") chosen.forEach((name) => guarded(runMethod)(name));
}

async function chooseMethods(chosen) {
  const before = (view.methods ?? "").split(",").filter(Boolean);
  change({ methods: chosen.join(",") || null });
  for (const name of before) if (!chosen.includes(name)) classesPanel.removeMap(name);
  await Promise.all(chosen.filter((name) => !before.includes(name)).map(runMethod));
}

async function runMethod(name) {
  const title = classesPanel.label(name);
  classesPanel.showWaiting(name, title);
  const asked = { method: name, target: view.target, parameters: classesPanel.parameters(name) };
  try {
    classesPanel.showMap(name, title, await api.ask(input.id, "saliency", asked, `saliency ${name}`));
  } catch (error) {
    if (error.name === "AbortError") return;
    classesPanel.showProblem(name, title, error.message);
  }
}

// After another input or class: the same layer, channel and unit as before.
async function showAgain() {
  if (view.layer === null || !layerOf(view.layer)) return;
  unitPanel.clear();
  await walk({ layer: view.layer, channel: view.channel, row: view.row, column: view.column }, view.page);
}

async function openLayer(part) {
  change(part);
  if (!input) {
    channelsPanel.clear("Add an input first: then the layer's channels appear here.");
    return;
  }
  graph.select(view.layer);
  const asked = { layer: view.layer, target: view.target, sort: view.sort, page: view.page };
  const answer = await api.ask(input.id, "channels", asked);
  channelsPanel.show(layerOf(view.layer), answer, view.sort, classScore());
  channelsPanel.mark(view.channel);
  if (answer.about.channels === 1) await openChannel({ channel: 0, row: null, column: null });
}

function classScore() {
  if (!input.scores) return null;
  return view.target === null ? Math.max(...input.scores.data) : input.scores.data[view.target];
}

async function openChannel(part) {
  change(part);
  channelsPanel.mark(view.channel);
  const asked = { layer: view.layer, channel: view.channel, target: view.target };
  const answer = await api.ask(input.id, "channel", asked);
  channelsPanel.positions.show(layerOf(view.layer), answer, view.row, view.column, input);
  const [height, width] = answer.arrays.values.shape;
  if (height * width === 1 && view.row === null) await openUnit({ row: 0, column: 0 });
}

async function openUnit(part) {
  change(part);
  const asked = { layer: view.layer, channel: view.channel, row: view.row, column: view.column, target: view.target };
  const started = performance.now();
  const answer = await api.ask(input.id, "unit", asked);
  unitPanel.showUnit(answer, input);
  performance.measure("click to map", { start: started, end: performance.now() });
}

async function walk(place, page = null) {
  const other = place.layer !== view.layer || page !== null;
  change(place);
  if (other) await openLayer({ page: page ?? 0 });
  if (place.channel === null) return;
  await openChannel({});
  if (place.row !== null && place.column !== null) await openUnit({});
}

async function showWholeChannel() {
  const answer = await api.ask(input.id, "channel_map", { layer: view.layer, channel: view.channel }, "unit");
  unitPanel.showChannel(answer, input);
}

async function restore(wanted, entries = []) {
  if (wanted.network !== network?.id) {
    const offered = /^(torchvision|timm):./.test(wanted.network ?? "") || server.networks.some(({ name }) => name === wanted.network);
    if (wanted.network !== null && !offered) {
      throw new Error("This view is about an uploaded network: upload its file here first, then open the view again.");
    }
    showNetwork(await api.chooseNetwork(wanted.network ?? server.networks[0].name));
  }
  view = { ...wanted, network: network.id };
  for (const entry of entries) {
    if (inputs.some(({ id }) => id === entry.id)) continue;
    await keep(entry.kind, await saved.restoreInput(entry), { number: entry.number, text: entry.text, label: entry.label }, false);
  }
  await beginWithInputs(wanted.input);
  if (wanted.input !== null && input && wanted.input !== input.id) {
    tell("The input of this link was uploaded and is not in your strip; another one is shown.");
  }
  graph.select(view.layer);
}

at("problem").querySelector("button").addEventListener("click", () => (at("problem").hidden = true));
at("copy-link").addEventListener("click", guarded(async () => {
  await navigator.clipboard.writeText(location.href);
  activity.say("Link copied");
}));
at("save-view").addEventListener("click", guarded(async () => {
  download(await saved.pack(view, network, fitting()), "fwdkern-view.json");
}));
at("open-view").addEventListener("change", guarded(async () => {
  const [file] = at("open-view").files;
  at("open-view").value = "";
  if (!file) return;
  const content = saved.unpack(await file.text());
  await restore({ ...EMPTY, ...content.view }, content.inputs);
}));
window.addEventListener("hashchange", guarded(() => restore(fromHash(location.hash))));
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

await guarded(async () => {
  server = await api.state();
  colours.setStops(server.colours);
  networkPanel.offer(server.networks);
  classesPanel.offer(server.methods);
  inputs = server.inputs;
  const wanted = fromHash(location.hash);
  if (server.network) {
    showNetwork(server.network);
    if (wanted.network === null) wanted.network = network.id;
  }
  await restore(wanted);
})();
document.documentElement.dataset.ready = "true";
