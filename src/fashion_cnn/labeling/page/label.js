// The page on which people decide about labels. The server keeps every decision on its disk.
import { bar, byId, element } from "./shared/elements.js";

const MANY = 10; // classes, above which they are found by typing
let task = null;
let item = null; // that is shown
let busy = false; // a decision is on its way
let isLoaded = false; // whether its picture is on the screen
let token = sessionStorage.getItem("token");
const by = localStorage.getItem("by") ?? crypto.getRandomValues(new Uint32Array(2)).join("-");
localStorage.setItem("by", by);

class NeedsToken extends Error {}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not respond. Is it still running? Nothing is lost; try again.");
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const ErrorClass = response.status === 401 ? NeedsToken : Error;
  throw Object.assign(new ErrorClass(error ?? `The server responded with status ${response.status}.`), {
    status: response.status,
  });
}

async function post(path, content) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify({ by, ...content }) })).json();
}

/** Show a picture in an image element. */
async function load(image, name, small) {
  image.dataset.name = name;
  const blob = await (await request(`picture?${new URLSearchParams({ name, small })}`)).blob();
  if (image.dataset.name !== name) return; // another one is shown by now
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
  await image.decode().catch(() => {});
  image.classList.toggle("small", image.naturalWidth < 100);
  if (image.id === "large" && image.dataset.name === name) {
    isLoaded = true;
    showBusy();
  }
}

function showBusy() {
  document.body.ariaBusy = String(busy || (item !== null && !isLoaded));
}

function showStatus(text) {
  byId("status").textContent = text;
}

function showError(error) {
  showStatus(error.message);
  byId("token").hidden = !(error instanceof NeedsToken);
}

function showProgress({ decided, corrected, total, doubtful, advice }) {
  const position = item ? `Picture ${item.position.toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
  const known = doubtful && doubtful < total ? ` (${doubtful.toLocaleString("en")} doubtful)` : "";
  const counts = `${decided.toLocaleString("en")} decided${task.blind ? "" : `, ${corrected.toLocaleString("en")} corrected`}`;
  byId("progress").textContent = [position + known, counts, advice].filter(Boolean).join(" · ");
  byId("track").style.width = `${total ? (100 * (item ? item.position - 1 : total)) / total : 0}%`;
}

/** The label that Enter gives: the present one, or the model's first where there is none. */
const suggestion = () => item.label || (task.blind ? "" : item.top[0].label);

function show({ item: next, remaining, progress, message }) {
  item = next;
  showStatus(message ?? "");
  byId("token").hidden = true;
  byId("work").hidden = !item;
  byId("done").hidden = Boolean(item);
  showProgress(progress);
  if (!item) {
    byId("done-title").textContent = remaining ? "No picture is left for you." : "All pictures are decided.";
    const others = `${remaining?.toLocaleString("en")} were skipped, or are shown to somebody else. Skipped pictures come again when fashion-cnn label starts anew. `;
    byId("next-step").textContent = `${remaining ? others : ""}Train again with --decisions ${task.decisions}.`;
    return;
  }
  isLoaded = false;
  byId("large").removeAttribute("src"); // nobody shall decide about the one before
  load(byId("large"), item.name, false).catch(showError);
  byId("opinion").hidden = byId("similar").hidden = task.blind;
  byId("reason").textContent = item.reason;
  byId("bars").replaceChildren(...item.top.map(bar));
  byId("keep").hidden = task.blind;
  const action = item.label ? `Keep ${item.label} ` : `Accept ${suggestion()} `;
  byId("keep").replaceChildren(action, element("kbd", { textContent: "Enter" }));
  byId("filter").value = "";
  showClasses();
  byId("similar").hidden ||= item.neighbors.length === 0;
  byId("neighbors").replaceChildren(
    ...item.neighbors.map(({ name, label }) => {
      const image = element("img", { alt: "" });
      load(image, name, true).catch(() => {});
      const isOther = item.label !== "" && label !== item.label;
      return element("li", {}, image, element("span", { textContent: label, className: isOther ? "other" : "" }));
    }),
  );
  document.activeElement?.blur(); // so that keys decide about the next picture
}

/** The classes whose names contain what was typed, those that begin with it first. */
function matches() {
  const typed = byId("filter").value.trim().toLowerCase();
  const names = task.class_names.filter((name) => name.toLowerCase().includes(typed));
  const begins = (name) => name.toLowerCase().startsWith(typed);
  return typed ? [...names.filter(begins), ...names.filter((name) => !begins(name))] : names;
}

function showClasses() {
  const isMany = task.class_names.length > MANY;
  byId("classes").replaceChildren(
    ...matches().map((name, i) => {
      const button = element("button", { type: "button" }, element("span", { textContent: name }));
      if (!isMany) button.append(element("kbd", { textContent: (i + 1) % 10 }));
      button.classList.toggle("present", !task.blind && name === item.label);
      button.addEventListener("click", () => decide("label", name));
      return element("li", {}, button);
    }),
  );
}

/** Send something to the server, one at a time, and show what it answers. */
async function send(path, content = {}) {
  if (busy) return;
  busy = true;
  showBusy();
  try {
    show(await post(path, content));
  } catch (error) {
    if (error.status === 409) {
      const { message } = error;
      await post("next").then((next) => show({ ...next, message }), () => showError(error));
    } else showError(error);
  } finally {
    busy = false;
    showBusy();
  }
}

const decide = (decision, label = "") =>
  item && (isLoaded || decision === "skip") && send("decide", { name: item.name, decision, label });
const keep = () => item && suggestion() && decide("label", suggestion());
const undo = () => send("undo");

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !task || byId("instructions").open) return;
  const { key, target } = event;
  const isTyping = target.id === "filter";
  if (event.isComposing || (event.repeat && !isTyping)) return; // a key that is held decides once
  if (target.closest("#token") || (target.closest("button") && [" ", "Enter"].includes(key))) return;
  const typed = byId("filter").value !== "";
  const isMany = task.class_names.length > MANY;
  if (key === "Enter") {
    if (typed && matches().length) decide("label", matches()[0]);
    else if (!typed) keep();
  } else if (key === "Escape") {
    byId("filter").value = "";
    if (item) showClasses();
    document.activeElement.blur();
  } else if (typed || (isTyping && key !== " ")) return;
  else if (key === " ") decide("skip");
  else if (key === "Backspace") undo();
  else if (key === "?") byId("instructions").showModal();
  else if (key === "x") decide("none");
  else if (!isMany && /^[0-9]$/.test(key)) {
    const name = task.class_names[(Number(key) + 9) % 10];
    if (name) decide("label", name);
  } else if (isMany && key === "/") byId("filter").focus();
  else if (isMany && key.length === 1) {
    byId("filter").focus();
    return; // the character goes into the field
  } else return;
  event.preventDefault();
}

function showInstructions() {
  const rows = [];
  for (const name of task.class_names) {
    const images = (task.examples[name] ?? []).map((example) => {
      const image = element("img", { alt: `A typical ${name}`, loading: "lazy" });
      load(image, example, true).catch(() => {});
      return image;
    });
    if (task.instructions[name] || images.length) {
      const text = element("div", { textContent: task.instructions[name] ?? "" });
      rows.push(element("dt", { textContent: name }), element("dd", {}, text, ...images));
    }
  }
  byId("descriptions").replaceChildren(...rows);
  const isMany = task.class_names.length > MANY;
  const keys = [
    isMany ? ["letters, or /", "find a class; Enter takes the first"] : ["1 … 9, 0", "the class with this number"],
    ["Enter", "keep the label; where there is none, accept the model's first class"],
    ["x", "none of these: leave the picture out"],
    ["Space", "skip"],
    ["Backspace", "undo the last decision"],
  ];
  byId("keys").replaceChildren(
    ...keys.map(([key, text]) =>
      element("tr", {}, element("td", {}, element("kbd", { textContent: key })), element("td", { textContent: text })),
    ),
  );
}

async function start() {
  try {
    task = await (await request("task.json")).json();
  } catch (error) {
    showError(error);
    return;
  }
  byId("title").textContent = document.title = task.title;
  byId("search").hidden = task.class_names.length <= MANY;
  byId("foot").textContent = `Decisions are written to ${task.decisions}; the pictures and their labels are not changed.`;
  showInstructions();
  await send("next");
}

document.addEventListener("keydown", onKey);
byId("filter").addEventListener("input", () => item && showClasses());
byId("keep").addEventListener("click", keep);
byId("none").addEventListener("click", () => decide("none"));
byId("skip").addEventListener("click", () => decide("skip"));
for (const id of ["undo", "undo-last"]) byId(id).addEventListener("click", undo);
byId("help").addEventListener("click", () => byId("instructions").showModal());
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = event.target.querySelector("input").value;
  sessionStorage.setItem("token", token);
  byId("token").hidden = true;
  showStatus("");
  start();
});
start();
