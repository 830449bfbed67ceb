/** What reading a value gives: the value, or what is wrong with it and what would be right. */
export type Parsed<T> = { readonly value: T } | { readonly complaint: string };
