// Questions to the API: typed, abortable, and asked again while the window is live.

import { useEffect, useRef, useState } from "preact/hooks";
import { changed, type Params } from "./url";
import { live, pollingInterval, range, refreshes } from "./window";

/** Why there is no answer, in words for the user. status 0: the server was not reached. */
export class Failure extends Error {
  constructor(readonly status: number, message: string) { super(message); }
}

/** GET /api/v1/PATH. Throws Failure; a DOMException "AbortError" if `signal` says so. */
export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  const query = changed(new URLSearchParams(), params).toString();
  let answer: Response;
  try {
    answer = await fetch(`/api/v1/${path}${query ? `?${query}` : ""}`, { ...(signal ? { signal } : {}), headers: { accept: "application/json" } });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Failure(0, "The viewer does not answer. Is it still running?");
  }
  if (!answer.ok) throw new Failure(answer.status, await problem(answer));
  return (await answer.json()) as T;
}

async function problem(answer: Response): Promise<string> {
  try {
    const body: unknown = await answer.json();
    if (typeof body === "object" && body !== null && "error" in body && typeof body.error === "string") return body.error;
  } catch {
    // not JSON: the status has to do
  }
  return `The viewer answered ${answer.status} ${answer.statusText}`.trim();
}

export interface Answer<T> { data: T | null; error: Failure | null; loading: boolean; reload: () => void }

export interface Asking {
  /** Ask again while the window is live (default), never, or every so many ms. */
  poll?: boolean | number;
  /** Add start and end of the window (default). */
  windowed?: boolean;
  /** What is on the screen stays until the new answer is there, also if the question is another one. */
  keep?: boolean;
}

/**
 * The answer to GET /api/v1/PATH, for a component; path null: nothing is asked.
 *
 *     const { data, error, loading } = useGet<Services>("services");
 */
export function useGet<T>(path: string | null, params: Params = {}, asking: Asking = {}): Answer<T> {
  const { poll = true, windowed = true, keep = false } = asking;
  const all: Params = windowed ? { ...range.value, ...params } : params;
  const question = path === null ? null : `${path}?${changed(new URLSearchParams(), all).toString()}`;
  const polling = poll === true ? live.value : poll !== false;
  const asked = refreshes.value;
  const [state, setState] = useState<{ question: string | null; data: T | null; error: Failure | null; loading: boolean }>({
    question: null, data: null, error: null, loading: true,
  });
  const [again, setAgain] = useState(0);
  const latest = useRef({ path, all });
  latest.current = { path, all };

  useEffect(() => {
    if (question === null) return undefined;
    const abort = new AbortController();
    let timer = 0;
    const ask = async (): Promise<void> => {
      const started = performance.now();
      try {
        const data = await get<T>(latest.current.path ?? "", latest.current.all, abort.signal);
        setState({ question, data, error: null, loading: false });
      } catch (error) {
        if (abort.signal.aborted) return;
        const failure = error instanceof Failure ? error : new Failure(0, String(error));
        setState((before) => ({ question, data: before.question === question ? before.data : null, error: failure, loading: false }));
      }
      if (polling && !abort.signal.aborted) {
        // A slow server is not asked more often than it can answer.
        const pause = typeof poll === "number" ? poll : pollingInterval();
        timer = window.setTimeout(next, Math.max(pause, 2 * (performance.now() - started)));
      }
    };
    const next = (): void => {
      if (!document.hidden) void ask();
      else document.addEventListener("visibilitychange", next, { once: true });
    };
    setState((before) => ({ ...before, loading: true }));
    void ask();
    return () => {
      abort.abort();
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", next);
    };
  }, [question, polling, asked, again]);

  const mine = state.question === question;
  return {
    data: mine || keep ? state.data : null,
    error: mine ? state.error : null,
    loading: state.loading || !mine,
    reload: () => setAgain((value) => value + 1),
  };
}
