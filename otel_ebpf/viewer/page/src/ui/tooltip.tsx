// One tooltip for the whole page: views say what it shows and where; it keeps itself inside the window.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

const shown = signal<{ x: number; y: number; content: ComponentChildren } | null>(null);

/** Show `content` beside the pointer (client coordinates). */
export function showTooltip(x: number, y: number, content: ComponentChildren): void { shown.value = { x, y, content }; }
export function hideTooltip(): void { if (shown.value) shown.value = null; }

export function Tooltip() {
  const box = useRef<HTMLDivElement>(null);
  const at = shown.value;
  useLayoutEffect(() => {
    if (!box.current || !at) return;
    const { offsetWidth: width, offsetHeight: height, style } = box.current;
    style.left = `${at.x + 14 + width > window.innerWidth - 8 ? Math.max(8, at.x - width - 14) : at.x + 14}px`;
    style.top = `${Math.max(8, Math.min(at.y + 14, window.innerHeight - height - 8))}px`;
  }, [at]);
  return at ? <div class="tooltip" role="tooltip" ref={box}>{at.content}</div> : null;
}
