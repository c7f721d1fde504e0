// A view as a file: what was looked at, and the inputs themselves. Networks are not in it, they may be large.

import * as api from "./api.js";

const VERSION = 1;

export async function pack(view, network, inputs) {
  const kept = [];
  for (const { id, kind, label, number, text } of inputs) {
    const entry = { id, kind, label, number, text };
    if (kind === "image") entry.file = await base64(await api.original(id));
    kept.push(entry);
  }
  const content = { "fwdkern view": VERSION, view, network: { id: network.id, label: network.label }, inputs: kept };
  return new Blob([JSON.stringify(content)], { type: "application/json" });
}

export function unpack(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error("This file is not a saved view: it is not JSON.");
  }
  if (content?.["fwdkern view"] !== VERSION || !content.view || !Array.isArray(content.inputs)) {
    throw new Error("This file is not a saved view of this version of fwdkern.");
  }
  return content;
}

export async function restoreInput(entry) {
  if (entry.kind === "sample") return api.addSample(entry.number);
  if (entry.kind === "text") return api.addText(entry.text);
  const bytes = Uint8Array.from(atob(entry.file), (c) => c.charCodeAt(0));
  return api.addImage(new Blob([bytes]), entry.label);
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
