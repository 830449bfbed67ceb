/** The first look: whether keys can be delivered, and what is wrong since when. */
import { byId, keep, make, setText } from "./elements.js";
import { formatSpan, formatTime } from "./format.js";

const parts = new WeakMap();

export function showVerdict({ status, now }) {
  const { delivery: { links, problems } } = status;
  const verdict = byId("verdict");
  const [state, words] = judge(links, problems, status);
  if (verdict.dataset.state !== state) verdict.dataset.state = state;
  setText(byId("verdict-words"), words);
  const elements = keep(
    byId("problems"),
    problems,
    ({ severity, link, what }) => `${severity} ${link} ${what}`,
    makeProblem,
  );
  elements.forEach((element, i) => {
    const { what, since } = parts.get(element);
    const problem = problems[i];
    setText(what, problem.what);
    const begin = new Date(problem.since);
    setText(since, `since ${formatTime(begin)} (${formatSpan(now - begin.getTime())})`);
    element.dataset.state = problem.severity === "error" ? "bad" : "warn";
  });
}

function judge(links, problems, status) {
  const names = (able) =>
    status.links.filter((link) => link.used && canDeliver(status, link) === able).map(nameIn(status));
  if (links === "none" && status.ready && !status.links.some(({ used }) => used)) {
    return ["warn", "No keys yet: no key file has been ingested"];
  }
  if (links === "none") return ["bad", "Keys cannot be delivered"];
  if (links === "some") {
    return [
      "bad",
      `Keys can be delivered for ${names(true).join(", ")}, but not for ${names(false).join(", ")}`,
    ];
  }
  return problems.length === 0
    ? ["good", "Keys can be delivered on all links in use"]
    : ["warn", "Keys can be delivered on all links in use, but there are problems"];
}

/** Whether a link can deliver keys now. */
export function canDeliver({ ready, peers }, { kme, free }) {
  return ready && free !== null && free > 0 && peers.find((peer) => peer.kme === kme)?.up !== false;
}

function nameIn(status) {
  return ({ kme }) => kme === status.kme ? "own SAEs" : `KME ${kme}`;
}

function makeProblem() {
  const what = make("span");
  const since = make("span", { class: "since" });
  const element = make("li", {}, what, " ", since);
  parts.set(element, { what, since });
  return element;
}
