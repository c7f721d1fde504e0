// What the header says while the server computes, and the button that stops it.

import * as api from "./api.js";

const PATIENCE = 400; // milliseconds before anything is said
const STEP = 500;

export class Activity {
  constructor(status, bar, cancel) {
    this.status = status;
    this.bar = bar;
    this.cancel = cancel;
    this.what = "";
    cancel.addEventListener("click", () => api.cancel());
    api.onActivity((running) => this.#changed(running));
  }

  say(text) {
    this.status.textContent = text;
    clearTimeout(this.fading);
    this.fading = setTimeout(() => {
      if (this.status.textContent === text) this.status.textContent = "";
    }, 4000);
  }

  #changed(running) {
    if (running && !this.timer) this.timer = setTimeout(() => this.#show(), PATIENCE);
    if (!running) {
      clearTimeout(this.timer);
      this.timer = null;
      this.bar.hidden = this.cancel.hidden = true;
      if (this.status.textContent.startsWith("Computing")) this.status.textContent = "";
    }
  }

  async #show() {
    if (!this.timer) return;
    this.status.textContent = "Computing …";
    this.bar.hidden = this.cancel.hidden = false;
    const { done, total } = await api.progress().catch(() => ({ done: 0, total: 0 }));
    if (!this.timer) return;
    if (total) {
      this.bar.max = total;
      this.bar.value = done;
      this.status.textContent = `Computing: ${done} of ${total}`;
    } else {
      this.bar.removeAttribute("value");
    }
    this.timer = setTimeout(() => this.#show(), STEP);
  }
}
