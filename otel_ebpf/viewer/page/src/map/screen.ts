// The canvas: as many pixels as the screen has, seen through the pan and zoom of the moment; and pictures of what was
// painted, which are moved where painting anew would take longer than a frame.

import type { ZoomTransform } from "d3-zoom";

type Context = CanvasRenderingContext2D;

/** The painted map as an image, which reaches `margin` px beyond the window; `transform`: of when it was taken. */
export interface Picture { image: OffscreenCanvas; transform: ZoomTransform; margin: number }

const BLURRED = 1.6;

const ratio = (): number => window.devicePixelRatio || 1;

function look(context: Context | OffscreenCanvasRenderingContext2D, { x, y, k }: ZoomTransform, margin: number): void {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  context.setTransform(ratio() * k, 0, 0, ratio() * k, ratio() * (x + margin), ratio() * (y + margin));
}

export class Screen {
  /** In CSS pixels. */
  width = 0;
  height = 0;
  private readonly context: Context;

  constructor(private readonly canvas: HTMLCanvasElement | null) {
    const context = canvas?.getContext("2d");
    if (!context) throw new Error("This browser has no 2D canvas");
    this.context = context;
  }

  resize(width: number, height: number): void {
    this.width = width;
    this.height = height;
    if (!this.canvas) return;
    this.canvas.width = Math.round(width * ratio());
    this.canvas.height = Math.round(height * ratio());
  }

  /** An empty canvas on which the scene's units count. */
  begin(transform: ZoomTransform): Context {
    look(this.context, transform, 0);
    return this.context;
  }

  picture(transform: ZoomTransform, margin: number, paint: (context: Context) => void): Picture | null {
    const pixels = (length: number): number => Math.max(1, Math.ceil(ratio() * (length + 2 * margin)));
    const image = new OffscreenCanvas(pixels(this.width), pixels(this.height));
    const context = image.getContext("2d");
    if (!context) return null;
    look(context, transform, margin);
    paint(context as unknown as Context); // all that painting uses, both kinds of context have
    return { image, transform, margin };
  }

  /** Whether a picture, moved to where it belongs now, fills the window and is not blurred. */
  covers(picture: Picture, now: ZoomTransform): boolean {
    const { left, top, scale } = shifted(picture, now);
    const right = left + scale * (this.width + 2 * picture.margin);
    const bottom = top + scale * (this.height + 2 * picture.margin);
    return left <= 0 && top <= 0 && right >= this.width && bottom >= this.height && scale < BLURRED;
  }

  paste(picture: Picture, now: ZoomTransform): void {
    const { left, top, scale } = shifted(picture, now);
    this.context.save();
    this.context.setTransform(scale, 0, 0, scale, ratio() * left, ratio() * top);
    this.context.drawImage(picture.image, 0, 0);
    this.context.restore();
  }
}

/** Where the picture's corner belongs, in CSS pixels, and how much larger it is than when it was taken. */
function shifted({ transform, margin }: Picture, { x, y, k }: ZoomTransform): { left: number; top: number; scale: number } {
  const scale = k / transform.k;
  return { left: x - scale * (transform.x + margin), top: y - scale * (transform.y + margin), scale };
}
