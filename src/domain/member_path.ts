/** Members of JSON documents, as messages name them. */

/** Steps from a document's outermost value to a member. */
export type MemberPath = readonly (string | number)[];

/** `saes[2].kme_id`; a name that is no identifier is quoted. Empty for the document as a whole. */
export function formatMember(path: readonly PropertyKey[]): string {
  return path.map((step, index) => {
    if (typeof step === "number") return `[${step}]`;
    const name = String(step);
    if (!/^[A-Za-z_$][\w$]*$/.test(name)) return `[${JSON.stringify(name)}]`;
    return index === 0 ? name : `.${name}`;
  }).join("");
}
