// The page to label frames on: one frame at a time, an answer by keyboard, Enter saves it and goes on.
"use strict";

const token = new URLSearchParams(location.search).get("token");
const at = (id) => document.getElementById(id);
let batch = null;
let index = 0;
let typed = ""; // what was typed for a number
let boxes = []; // [x, y, width, height], shares of the picture's sides
let chosen = null; // the class
let drag = null;

const frame = () => batch.frames[index];

async function ask(path, options) {
  const response = await fetch(path, options);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

function answer() {
  if (batch.task === "class") return chosen;
  if (typed !== "") return Number(typed);
  return batch.task === "count" && boxes.length > 0 ? boxes.length : null;
}

function show() {
  const value = answer();
  at("answer").textContent = value === null ? "–" : String(value);
  document.querySelectorAll(".box").forEach((it) => it.remove());
  for (const [x, y, width, height] of drag ? [...boxes, drag.box] : boxes) {
    const box = document.createElement("div");
    box.className = "box";
    box.style.left = `${100 * x}%`;
    box.style.top = `${100 * y}%`;
    box.style.width = `${100 * width}%`;
    box.style.height = `${100 * height}%`;
    at("stage").append(box);
  }
}

function open(next) {
  index = Math.max(0, Math.min(batch.frames.length - 1, next));
  const it = frame();
  at("picture").src = `/frames/${it.id}?token=${token}`;
  at("picture").dataset.id = it.id;
  boxes = it.boxes.map((box) => [...box]);
  chosen = batch.task === "class" ? it.value : null;
  typed = batch.task !== "class" && boxes.length === 0 && it.value !== null ? String(it.value) : "";
  const done = batch.frames.filter((each) => each.value !== null).length;
  at("where").textContent = `${batch.batch}: ${index + 1} of ${batch.frames.length}, ${done} labelled`;
  at("where").className = done === batch.frames.length ? "done" : "";
  at("frame").textContent = `${it.camera} ${it.captured_at}`;
  at("error").textContent = "";
  show();
}

async function save() {
  const it = frame();
  const value = answer();
  if (value === null) {
    at("error").textContent = "nothing to save yet";
    return;
  }
  const body = { id: it.id, path: it.path, value };
  // A number that was typed beside boxes counts alone: the boxes are not all there is.
  const marked = typed === "" ? boxes : [];
  if (marked.length > 0) body.boxes = marked;
  try {
    await ask("/api/label", {
      method: "POST",
      headers: { "content-type": "application/json", "x-token": token },
      body: JSON.stringify(body),
    });
    it.value = value;
    it.boxes = marked.map((box) => [...box]);
    open(index + 1);
  } catch (error) {
    at("error").textContent = error.message;
  }
}

document.addEventListener("keydown", (event) => {
  if (!batch || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key;
  if (key === "Enter") save();
  else if (key === "ArrowRight") open(index + 1);
  else if (key === "ArrowLeft") open(index - 1);
  else if (key === "Escape") { typed = ""; boxes = []; chosen = null; show(); }
  else if (key === "Backspace") {
    if (typed !== "") typed = typed.slice(0, -1);
    else boxes.pop();
    show();
  } else if (batch.task === "class" && /^[1-9]$/.test(key) && batch.classes[key - 1]) {
    chosen = batch.classes[key - 1];
    show();
  } else if (batch.task !== "class" && /^[0-9.-]$/.test(key)) { typed += key; show(); }
  else return;
  event.preventDefault();
});

function place(event) {
  const area = at("picture").getBoundingClientRect();
  const share = (value, from, size) => Math.max(0, Math.min(1, (value - from) / size));
  return [share(event.clientX, area.left, area.width), share(event.clientY, area.top, area.height)];
}

at("stage").addEventListener("pointerdown", (event) => {
  if (batch.task !== "count") return;
  const from = place(event);
  drag = { from, box: [...from, 0, 0] };
  at("stage").setPointerCapture(event.pointerId);
});
at("stage").addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  const [left, top] = [Math.min(x, drag.from[0]), Math.min(y, drag.from[1])];
  drag.box = [left, top, Math.abs(x - drag.from[0]), Math.abs(y - drag.from[1])];
  show();
});
at("stage").addEventListener("pointerup", () => {
  // A click marks nothing: a slip of the hand is no person.
  if (drag && drag.box[2] > 0.004 && drag.box[3] > 0.004) boxes.push(drag.box);
  drag = null;
  show();
});

const keys = {
  count: "type the number, or draw a box around each",
  class: "press its number",
  "time-of-day": "type the minutes since midnight",
  scalar: "type the number",
};

ask(`/api/batch?token=${token}`).then((loaded) => {
  batch = loaded;
  const names = batch.classes.map((name, i) => `<${i + 1}> ${name}`).join("  ");
  at("help").textContent =
    `${keys[batch.task]} ${names} · Enter saves and goes on · ← → look · Backspace takes back · Esc clears · you are ${batch.who}`;
  const first = batch.frames.findIndex((it) => it.value === null);
  open(first < 0 ? 0 : first);
}).catch((error) => { at("error").textContent = error.message; });
