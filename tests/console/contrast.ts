/** Contrast of the texts of a page, by WCAG 2. */
import type { Page } from "playwright-core";

export interface TextContrast {
  readonly text: string;
  readonly contrast: number;
}

/** Each visible element that has text, with its contrast to the background. */
export async function contrasts(page: Page): Promise<TextContrast[]> {
  return await page.evaluate(() => {
    // deno-lint-ignore no-explicit-any
    const { document, getComputedStyle } = globalThis as any;
    const parse = (color: string) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const luminance = ([r = 0, g = 0, b = 0]: number[]) => {
      const [red, green, blue] = [r, g, b].map((value) => {
        const part = value / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      }) as [number, number, number];
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    // deno-lint-ignore no-explicit-any
    const behind = (element: any): number[] => {
      for (let each = element; each !== null; each = each.parentElement) {
        const color = parse(getComputedStyle(each).backgroundColor);
        if (color.length === 3 || color[3]! > 0.99) return color;
      }
      return [255, 255, 255];
    };
    // deno-lint-ignore no-explicit-any
    return [...document.body.querySelectorAll("*")].flatMap((element: any) => {
      const text = [...element.childNodes].filter((node) => node.nodeType === 3)
        .map((node) => node.textContent.trim()).join(" ").trim();
      if (text === "" || element.getClientRects().length === 0 || element.closest("noscript, .hidden")) {
        return [];
      }
      const [light, dark] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))]
        .sort((a, b) => b - a) as [number, number];
      return [{ text, contrast: (light + 0.05) / (dark + 0.05) }];
    });
  });
}
