// The lines of one filter, as they come in: collected between two frames, so that the page draws once for many.

import { useEffect, useRef, useState } from "preact/hooks";
import { reducedMotion } from "../theme";
import { changed } from "../url";
import { added, countOf, hold, missed, NONE, release, spansOf, type Lines } from "./lines";
import { listen, type Event, type State } from "./stream";

/** With reduced motion lines come in calm steps. */
export const CALM_MS = 2000;

export interface Feed { lines: Lines; state: State; perSecond: number; pause: () => void; resume: () => void; clear: () => void }

export function useFeed(filter: string): Feed {
  const [lines, setLines] = useState<Lines>(NONE);
  const [state, setState] = useState<State>({ kind: "connecting" });
  const [perSecond, setPerSecond] = useState(0);
  const calm = reducedMotion.value;
  const queue = useRef<Event[]>([]);

  useEffect(() => {
    const query = changed(new URLSearchParams(), { q: filter }).toString();
    queue.current = [];
    setLines((before) => ({ ...NONE, held: before.held }));
    let frame = 0;
    let timer = 0;
    let recent = 0;
    const draw = (): void => {
      frame = 0;
      timer = 0;
      const events = queue.current.splice(0);
      setLines((before) => events.reduce((now, event) => (
        event.name === "spans" ? added(now, spansOf(event.data)) : event.name === "missed" ? missed(now, countOf(event.data)) : now), before));
    };
    const heard = (event: Event): void => {
      queue.current.push(event);
      if (event.name === "spans") recent += event.data.split('"trace_id"').length - 1;
      // Nobody looks: kept short, as frames do not come in the background.
      if (document.hidden && queue.current.length > 20) draw();
      if (calm) timer ||= window.setTimeout(draw, CALM_MS);
      else frame ||= window.requestAnimationFrame(draw);
    };
    const count = window.setInterval(() => { setPerSecond(recent / 2); recent = 0; }, 2000);
    const end = listen(`/api/v1/live${query ? `?${query}` : ""}`, heard, setState);
    return () => {
      end();
      window.clearInterval(count);
      window.clearTimeout(timer);
      window.cancelAnimationFrame(frame);
    };
  }, [filter, calm]);

  return {
    lines, state, perSecond,
    pause: () => setLines(hold), resume: () => setLines(release),
    clear: () => setLines((before) => ({ ...NONE, held: before.held, total: before.total })),
  };
}
