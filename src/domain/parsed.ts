/** The result of parsing: the value, or what is wrong and what would be right. */
export type Parsed<T> = { readonly value: T } | { readonly problem: string };
