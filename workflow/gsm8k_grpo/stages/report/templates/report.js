// The page's behaviour: the browser of all answers, tables that sort, charts, print.  Vega stands before it.
"use strict";

const SHOWN_AT_ONCE = 10;
const RESULTS = {fixed: "newly right", broken: "newly wrong", right: "right in both", wrong: "wrong in both"};
const CHANGED = {format: "the form alone changed", answer: "the number alone changed", both: "form and number changed"};
const KINDS = {
  all: ["all", () => true],
  fixed: ["fixed", change => change.result === "fixed"],
  broken: ["broken", change => change.result === "broken"],
  format: ["format only", change => change.by === "format"],
  right: ["right in both", change => change.result === "right"],
  wrong: ["wrong in both", change => change.result === "wrong"],
};

const byId = id => document.getElementById(id);

/** A new element; children are elements or texts, and a text never becomes markup. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The browser of all answers: only those shown are in the document, a few at a time.

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
  badge.append(element("span", {className: answer.strict ? "good" : "bad"}, answer.strict ? "✓ right" : "✗ wrong"));
  const remarks = [`${answer.tokens} tokens`];
  if (answer.flexible !== answer.strict)
    remarks.unshift(answer.flexible ? "right if the form is disregarded" : "wrong if the form is disregarded");
  if (answer.cut) remarks.push("cut at the limit");
  if (answer.drawn) remarks.push(`${answer.drawn[0]} of ${answer.drawn[1]} samples right`);
  badge.append(element("span", {className: "muted"}, ` ${remarks.join(", ")}`));
  return element("div", {}, badge, answerText(answer.text, change));
}

function questionArticle(question, models, variant, marked) {
  const change = question.changes[variant];
  const told = [`gold ${question.gold}`, `${models[variant + 1]}: ${RESULTS[change.result]}`];
  if (change.by) told.push(CHANGED[change.by]);
  told.push(question.id);
  const boxes = models.map((model, index) =>
    answerBox(model, question.answers[index], marked && index > 0 ? question.changes[index - 1] : null));
  return element("article", {className: "question"},
    element("h4", {}, question.question),
    element("p", {className: "muted"}, told.join(" · ")),
    element("div", {className: "answers"}, ...boxes));
}

async function browseAnswers() {
  const {models, passes} = await decompressed(byId("completions-data").textContent);
  for (const question of passes.flatMap(pass => pass.questions))
    question.searched = [question.id, question.question, ...question.answers.map(answer => answer.text)]
      .join("\n").toLowerCase();
  let matching = [];

  const chosen = () => ({
    questions: passes[Number(byId("pass").value)].questions,
    variant: Number(byId("variant").value),
    kind: document.querySelector("#kinds input:checked").value,
    words: byId("search").value.toLowerCase(),
  });

  function tellCount() {
    const {questions} = chosen();
    const shown = byId("questions").childElementCount;
    byId("counted").textContent =
      `${matching.length.toLocaleString("en")} of ${questions.length.toLocaleString("en")} questions, ` +
      `${shown} shown, in the order of their set`;
    byId("more").hidden = shown >= matching.length;
  }

  function showMore() {
    const shown = byId("questions").childElementCount;
    const next = matching.slice(shown, shown + SHOWN_AT_ONCE);
    const {variant} = chosen();
    byId("questions").append(
      ...next.map(question => questionArticle(question, models, variant, byId("marked").checked)));
    tellCount();
  }

  function select() {
    const {questions, variant, kind, words} = chosen();
    const of = KINDS[kind][1];
    matching = questions.filter(question => of(question.changes[variant]) && question.searched.includes(words));
    byId("questions").replaceChildren();
    showMore();
  }

  function countKinds() {
    const {questions, variant} = chosen();
    for (const [kind, [label, of]] of Object.entries(KINDS)) {
      const count = questions.filter(question => of(question.changes[variant])).length;
      byId(`kind-${kind}`).textContent = `${label} (${count.toLocaleString("en")})`;
    }
  }

  for (const kind of Object.keys(KINDS)) {
    const input = element("input", {type: "radio", name: "kind", value: kind, checked: kind === "fixed"});
    byId("kinds").append(element("label", {}, input, " ", element("span", {id: `kind-${kind}`})));
  }
  byId("browser").addEventListener("submit", event => event.preventDefault());
  for (const id of ["pass", "variant"]) byId(id).addEventListener("change", () => { countKinds(); select(); });
  byId("browser").addEventListener("input", select);
  byId("more").addEventListener("click", showMore);
  countKinds();
  select();
  byId("browser").hidden = false;
}

// Tables sort as the ARIA Authoring Practices Guide has it: a button in each heading, aria-sort on the column sorted.

/** What a cell sorts by: its data-sort, else its number, else its text. */
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

// Charts, one after the other, so that the page stays responsive while they are drawn.  A screen reader gets a chart's
// description and not its hundreds of marks; the numbers stand in tables.

async function drawCharts() {
  const specifications = JSON.parse(byId("specifications").textContent);
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  for (const [id, specification] of Object.entries(specifications)) {
    await vegaEmbed(`#${id}`, specification, {renderer: "svg", actions: false, tooltip: {theme}});
    for (const mark of byId(id).querySelectorAll("[role='graphics-symbol']")) mark.setAttribute("aria-hidden", "true");
  }
}

// On paper everything is unfolded.

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
