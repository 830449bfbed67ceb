/** The files of the console's page, which are part of the program. */
import certificates from "./page/certificates.js" with { type: "text" };
import chart from "./page/chart.js" with { type: "text" };
import script from "./page/console.js" with { type: "text" };
import elements from "./page/elements.js" with { type: "text" };
import events from "./page/events.js" with { type: "text" };
import figures from "./page/figures.js" with { type: "text" };
import format from "./page/format.js" with { type: "text" };
import links from "./page/links.js" with { type: "text" };
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
  ["/console.js", javascript(script)],
  ["/certificates.js", javascript(certificates)],
  ["/chart.js", javascript(chart)],
  ["/elements.js", javascript(elements)],
  ["/events.js", javascript(events)],
  ["/figures.js", javascript(figures)],
  ["/format.js", javascript(format)],
  ["/links.js", javascript(links)],
]);

function javascript(text: string): PageFile {
  return { type: "text/javascript; charset=utf-8", text };
}
