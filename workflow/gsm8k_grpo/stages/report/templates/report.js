// The page's behaviour: the answer browser, sortable tables, charts, printing.  Vega is loaded before this script.
"use strict";

const SHOWN_AT_ONCE = 10;
const RESULTS = {fixed: "newly correct", broken: "newly wrong", right: "correct in both", wrong: "wrong in both"};
const CHANGED = {format: "only the format changed", answer: "only the number changed", both: "format and number changed"};
const KINDS = {
  all: ["all", () => true],
  fixed: ["newly correct", change => change.result === "fixed"],
  broken: ["newly wrong", change => change.result === "broken"],
  format: ["format only", change => change.by === "format"],
  right: ["correct in both", change => change.result === "right"],
  wrong: ["wrong in both", change => change.result === "wrong"],
};

const byId = id => document.getElementById(id);

/** A new element with elements or texts as children; a text never becomes markup. */
function element(name, properties = {}, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children);
  return created;
}

// The answer browser.  The document holds only the answers that are shown, a few at a time.

async function decompressed(base64) {
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function answerText(text, change) {
  if (!change) return element("pre", {}, text);
  const marks = {"=": "span", "+": "ins", "-": "del"};
  return element("pre", {}, ...change.diff.map(([sign, piece]) => element(marks[sign], {}, piece)));
}

function answerBox(model, answer, change) {
  const badge = element("p", {className: "badge"}, element("strong", {}, model), " ");
  badge.append(element("span", {className: answer.strict ? "good" : "bad"}, answer.strict ? "✓ correct" : "✗ wrong"));
  const remarks = [`${answer.tokens} tokens`];
  if (answer.flexible !== answer.strict)
    remarks.unshift(answer.flexible ? "correct if the format is ignored" : "wrong if the format is ignored");
  if (answer.cut) remarks.push("cut off at the token limit");
  if (answer.samples) remarks.push(`${answer.samples[0]} of ${answer.samples[1]} samples correct`);
  badge.append(element("span", {className: "muted"}, ` ${remarks.join(", ")}`));
  return element("div", {}, badge, answerText(answer.text, change));
}

function questionArticle(question, models, variant, marked) {
  const change = question.changes[variant];
  const facts = [`gold ${question.gold}`, `${models[variant + 1]}: ${RESULTS[change.result]}`];
  if (change.by) facts.push(CHANGED[change.by]);
  facts.push(question.id);
  const boxes = models.map((model, index) =>
    answerBox(model, question.answers[index], marked && index > 0 ? question.changes[index - 1] : null));
  return element("article", {className: "question"},
    element("h4", {}, question.question),
    element("p", {className: "muted"}, facts.join(" · ")),
    element("div", {className: "answers"}, ...boxes));
}

async function browseAnswers() {
  const {models, tasks} = await decompressed(byId("completions-data").textContent);
  for (const question of tasks.flatMap(task => task.questions))
    question.searchText = [question.id, question.question, ...question.answers.map(answer => answer.text)]
      .join("\n").toLowerCase();
  let matching = [];

  const selection = () => ({
    questions: tasks[Number(byId("task").value)].questions,
    variant: Number(byId("variant").value),
    kind: document.querySelector("#kinds input:checked").value,
    query: byId("search").value.toLowerCase(),
  });

  function showCount() {
    const {questions} = selection();
    const shown = byId("questions").childElementCount;
    byId("counted").textContent =
      `${matching.length.toLocaleString("en")} of ${questions.length.toLocaleString("en")} questions, ` +
      `${shown} of them shown`;
    byId("more").hidden = shown >= matching.length;
  }

  function showMore() {
    const shown = byId("questions").childElementCount;
    const next = matching.slice(shown, shown + SHOWN_AT_ONCE);
    const {variant} = selection();
    byId("questions").append(
      ...next.map(question => questionArticle(question, models, variant, byId("marked").checked)));
    showCount();
  }

  function select() {
    const {questions, variant, kind, query} = selection();
    const matches = KINDS[kind][1];
    matching = questions.filter(question => matches(question.changes[variant]) && question.searchText.includes(query));
    byId("questions").replaceChildren();
    showMore();
  }

  function countKinds() {
    const {questions, variant} = selection();
    for (const [kind, [label, matches]] of Object.entries(KINDS)) {
      const count = questions.filter(question => matches(question.changes[variant])).length;
      byId(`kind-${kind}`).textContent = `${label} (${count.toLocaleString("en")})`;
    }
  }

  for (const kind of Object.keys(KINDS)) {
    const input = element("input", {type: "radio", name: "kind", value: kind, checked: kind === "fixed"});
    byId("kinds").append(element("label", {}, input, " ", element("span", {id: `kind-${kind}`})));
  }
  byId("browser").addEventListener("submit", event => event.preventDefault());
  for (const id of ["task", "variant"]) byId(id).addEventListener("change", () => { countKinds(); select(); });
  byId("browser").addEventListener("input", select);
  byId("more").addEventListener("click", showMore);
  countKinds();
  select();
  byId("browser").hidden = false;
}

// Sortable tables follow the ARIA Authoring Practices Guide: a button in each heading, aria-sort on the sorted column.

/** The sort key of a cell: its data-sort, otherwise its number, otherwise its text. */
function sortKey(cell) {
  const text = cell.dataset.sort ?? cell.textContent.trim();
  const number = Number.parseFloat(text.replaceAll(",", "").replace("−", "-").replace(/^< /, ""));
  return Number.isNaN(number) ? text : number;
}

function ordered(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en");
}

function sortBy(table, heading) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const [body] = table.tBodies;
  const rows = [...body.rows].map(row => [sortKey(row.cells[heading.cellIndex]), row]);
  rows.sort((a, b) => sign * ordered(a[0], b[0]));
  for (const [, row] of rows) row.classList.remove("part");
  body.append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = element("button", {type: "button"}, heading.textContent.trim());
    button.addEventListener("click", () => sortBy(table, heading));
    heading.replaceChildren(button);
  }
}

// Charts are drawn one after the other, so that the page stays responsive.  Screen readers get the description of a
// chart instead of its hundreds of marks; the numbers are in the tables.

async function drawCharts() {
  const specifications = JSON.parse(byId("specifications").textContent);
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  for (const [id, specification] of Object.entries(specifications)) {
    await vegaEmbed(`#${id}`, specification, {renderer: "svg", actions: false, tooltip: {theme}});
    for (const mark of byId(id).querySelectorAll("[role='graphics-symbol']")) mark.setAttribute("aria-hidden", "true");
  }
}

// Printing unfolds everything.

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});

document.querySelectorAll("table.sortable").forEach(makeSortable);
browseAnswers().then(drawCharts);
