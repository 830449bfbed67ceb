/** Paths as clients write them. */

/** The path of a request, still percent-encoded, without doubled and trailing slashes. */
export function tolerantPath(request: Request): string {
  const url = request.url;
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const end = url.slice(start).search(/[?#]/);
  const path = end < 0 ? url.slice(start) : url.slice(start, start + end);
  if (!path.includes("//") && (path === "/" || !path.endsWith("/"))) return path;
  return path.replace(/\/{2,}/g, "/").replace(/(.)\/$/, "$1");
}
