// Server-sent events over fetch: unlike EventSource, it says why a filter was refused (HTML Living Standard,
// "Server-sent events").

export interface Event { name: string; data: string }

/** Takes text as it comes, in any pieces; gives whole events. What no line end ever follows is not kept for ever. */
export class Parser {
  private rest = "";
  private name = "";
  private data: string[] = [];
  private size = 0;

  constructor(private readonly most = 4_000_000) {}

  push(text: string): Event[] {
    const events: Event[] = [];
    this.rest += text;
    // A lone \r at the end may be the first half of \r\n.
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      const event = this.line(line);
      if (event) events.push(event);
    }
    if (this.rest.length > this.most) this.rest = "";
    return events;
  }

  private line(line: string): Event | null {
    if (line === "") {
      const event = this.data.length && this.size <= this.most ? { name: this.name || "message", data: this.data.join("\n") } : null;
      this.name = "";
      this.data = [];
      this.size = 0;
      return event;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "event") this.name = value;
    else if (field === "data") {
      this.size += value.length;
      if (this.size <= this.most) this.data.push(value);
    }
    return null;
  }
}

export type State =
  | { kind: "connecting" }
  | { kind: "open" }
  /** Will be tried again at `at` (Unix ms). */
  | { kind: "lost"; why: string; at: number }
  /** It is of no use to try again: the question itself is wrong. */
  | { kind: "refused"; why: string };

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

/** Listens to `address` until the function that is returned is called; comes back when the connection is lost. */
export function listen(address: string, heard: (event: Event) => void, changed: (state: State) => void): () => void {
  const abort = new AbortController();
  let timer = 0;
  let pause = FIRST_PAUSE_MS;
  const again = (why: string): void => {
    if (abort.signal.aborted) return;
    changed({ kind: "lost", why, at: Date.now() + pause });
    timer = window.setTimeout(() => void open(), pause);
    pause = Math.min(LONGEST_PAUSE_MS, 2 * pause);
  };
  const open = async (): Promise<void> => {
    changed({ kind: "connecting" });
    try {
      const answer = await fetch(address, { signal: abort.signal, headers: { accept: "text/event-stream" } });
      if (!answer.ok || !answer.body) {
        const why = await reason(answer);
        if (answer.status >= 400 && answer.status < 500) changed({ kind: "refused", why });
        else again(why);
        return;
      }
      changed({ kind: "open" });
      pause = FIRST_PAUSE_MS;
      const parser = new Parser();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) for (const event of parser.push(part.value)) heard(event);
      again("The viewer ended the stream.");
    } catch {
      again("The viewer does not answer. Is it still running?");
    }
  };
  void open();
  return () => { window.clearTimeout(timer); abort.abort(); };
}

async function reason(answer: Response): Promise<string> {
  try {
    const body: unknown = await answer.json();
    if (typeof body === "object" && body !== null && "error" in body && typeof body.error === "string") return body.error;
  } catch {
    // not JSON: the status has to do
  }
  return `The viewer answered ${answer.status} ${answer.statusText}`.trim();
}
