/** Headers of every JSON answer. */
export const JSON_HEADERS = { "content-type": "application/json", "cache-control": "no-store" } as const;
