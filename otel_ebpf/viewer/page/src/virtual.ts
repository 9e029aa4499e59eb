// Long lists of rows of one height: only those in sight are in the document.

import type { RefObject } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";

export interface Stretch { first: number; last: number }

/** Which rows [first, last) stand between `top` and `top + height` px, and `extra` ones around them. */
export function stretch(top: number, height: number, rowHeight: number, count: number, extra = 12): Stretch {
  const first = Math.max(0, Math.min(count, Math.floor(top / rowHeight)) - extra);
  const last = Math.min(count, Math.ceil((top + height) / rowHeight) + extra);
  return { first, last: Math.max(first, last) };
}

/** The rows of `box` (a scrolling element) that are in sight now. */
export function useStretch(box: RefObject<HTMLElement | null>, count: number, rowHeight: number): Stretch {
  const [seen, setSeen] = useState({ top: 0, height: 600 });
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const look = (): void => setSeen((before) => {
      const now = { top: element.scrollTop, height: element.clientHeight };
      return before.top === now.top && before.height === now.height ? before : now;
    });
    const resized = new ResizeObserver(look);
    resized.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    look();
    return () => { resized.disconnect(); element.removeEventListener("scroll", look); };
  }, []);
  return stretch(seen.top, seen.height, rowHeight, count);
}

/** Scroll `box` as little as needed for row `index` to be in sight; `margin`: px above it that something covers. */
export function reveal(box: HTMLElement, index: number, rowHeight: number, margin = 0): void {
  const top = index * rowHeight;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + rowHeight + margin > box.scrollTop + box.clientHeight) box.scrollTop = top + rowHeight + margin - box.clientHeight;
}
