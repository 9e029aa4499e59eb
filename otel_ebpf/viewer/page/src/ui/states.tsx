// What stands where data is not (yet): nothing found, an error, or the wait.

import type { ComponentChildren } from "preact";
import type { Failure } from "../fetch";

/** Nothing to show: says why, and what to do. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="state" role="status">
      <strong>{title}</strong>
      {children}
    </div>
  );
}

export function ErrorState({ error, retry }: { error: Failure; retry?: () => void }) {
  return (
    <div class="state" role="alert">
      <strong>{error.status === 404 ? "Not found" : "This could not be loaded"}</strong>
      <p>{error.message}</p>
      {retry && <button type="button" class="button" onClick={retry}>Try again</button>}
    </div>
  );
}

/** A hairline that moves; takes 2 px whether or not it is shown, so that nothing jumps. */
export function Loading({ shown = true }: { shown?: boolean }) {
  return shown
    ? <div class="loading" role="progressbar" aria-label="Loading" />
    : <div class="loading-off" />;
}
