/** The files of the console's page, embedded in the program. */
import certificates from "./page/certificates.js" with { type: "text" };
import chart from "./page/chart.js" with { type: "text" };
import script from "./page/console.js" with { type: "text" };
import elements from "./page/elements.js" with { type: "text" };
import events from "./page/events.js" with { type: "text" };
import figures from "./page/figures.js" with { type: "text" };
import files from "./page/files.js" with { type: "text" };
import format from "./page/format.js" with { type: "text" };
import links from "./page/links.js" with { type: "text" };
import saes from "./page/saes.js" with { type: "text" };
import series from "./page/series.js" with { type: "text" };
import topology from "./page/topology.js" with { type: "text" };
import trends from "./page/trends.js" with { type: "text" };
import verdict from "./page/verdict.js" with { type: "text" };
import style from "./page/console.css" with { type: "text" };
import icon from "./page/icon.svg" with { type: "text" };
import html from "./page/index.html" with { type: "text" };

export interface PageFile {
  readonly type: string;
  readonly text: string;
}

/** By path. */
export const PAGE: ReadonlyMap<string, PageFile> = new Map([
  ["/", { type: "text/html; charset=utf-8", text: html }],
  ["/console.css", { type: "text/css; charset=utf-8", text: style }],
  ["/icon.svg", { type: "image/svg+xml", text: icon }],
  ["/certificates.js", javascript(certificates)],
  ["/chart.js", javascript(chart)],
  ["/console.js", javascript(script)],
  ["/elements.js", javascript(elements)],
  ["/events.js", javascript(events)],
  ["/figures.js", javascript(figures)],
  ["/files.js", javascript(files)],
  ["/format.js", javascript(format)],
  ["/links.js", javascript(links)],
  ["/saes.js", javascript(saes)],
  ["/series.js", javascript(series)],
  ["/topology.js", javascript(topology)],
  ["/trends.js", javascript(trends)],
  ["/verdict.js", javascript(verdict)],
]);

function javascript(text: string): PageFile {
  return { type: "text/javascript; charset=utf-8", text };
}
