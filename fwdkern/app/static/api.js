// Talking to the server. A newer question of a kind gives up the older one.

import { read } from "./safetensors.js";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const latest = new Map();
const listeners = new Set();
let running = 0;

export function onActivity(listener) {
  listeners.add(listener);
}

async function send(path, options = {}) {
  running += 1;
  listeners.forEach((listener) => listener(running));
  try {
    const response = await fetch(path, { credentials: "same-origin", ...options });
    if (!response.ok) {
      const told = await response.json().catch(() => ({}));
      throw new Refused(response.status, told.error ?? `The server answered ${response.status}.`);
    }
    return response;
  } catch (error) {
    if (error instanceof TypeError) throw new Refused(0, "The server does not answer; is it still running?");
    throw error;
  } finally {
    running -= 1;
    listeners.forEach((listener) => listener(running));
  }
}

const json = (content, more = {}) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(content),
  ...more,
});

const file = (content, name) => ({
  method: "POST",
  headers: { "content-type": "application/octet-stream", "x-file-name": encodeURIComponent(name) },
  body: content,
});

const tensors = async (response) => read(await (await response).arrayBuffer());

// What is asked while an equal kind is under way replaces it; the server stops computing the older one.
export async function ask(input, what, content = {}, kind = what) {
  latest.get(kind)?.abort();
  const controller = new AbortController();
  latest.set(kind, controller);
  const path = `/api/inputs/${encodeURIComponent(input)}/${what}`;
  return tensors(send(path, json(content, { signal: controller.signal })));
}

export const state = async () => (await send("/api/state")).json();
export const chooseNetwork = async (name) => (await send("/api/network", json({ name }))).json();
export const preprocess = async (steps) => (await send("/api/preprocessing", json(steps))).json();
export const addSample = (number) => tensors(send("/api/inputs/sample", json({ number })));
export const addText = (text) => tensors(send("/api/inputs/text", json({ text })));
export const addImage = (content, name) => tensors(send("/api/inputs/image", file(content, name)));
export const remove = (input) => send(`/api/inputs/${encodeURIComponent(input)}`, { method: "DELETE" });
export const original = async (input) => (await send(`/api/inputs/${encodeURIComponent(input)}/file`)).blob();

export async function uploadNetwork(content, architecture) {
  const query = new URLSearchParams({ architecture });
  return (await send(`/api/network/upload?${query}`, file(content, content.name))).json();
}

// These two are no work of their own and must not count as such.
export const cancel = () => fetch("/api/cancel", { method: "POST", credentials: "same-origin" });
export const progress = async () => (await fetch("/api/progress", { credentials: "same-origin" })).json();
