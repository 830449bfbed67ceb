/** Lists in messages of other KMEs. */
import { z } from "zod";

/**
 * A list that is refused at its first wrong element, and before any of them when its length is wrong: `z.array` validates, and
 * reports, every element.
 */
export function listOf<T extends z.ZodType>(
  element: T,
  { min = 0, max = Infinity }: { readonly min?: number; readonly max?: number } = {},
) {
  return z.unknown().transform((value, context): z.output<T>[] => {
    const found: z.output<T>[] = [];
    if (Array.isArray(value) && value.length >= min && value.length <= max) {
      for (const each of value) {
        const { success, data } = element.safeParse(each);
        if (!success) break;
        found.push(data);
      }
      if (found.length === value.length) return found;
    }
    context.issues.push({ code: "custom", message: "no such list", input: value });
    return z.NEVER;
  });
}
