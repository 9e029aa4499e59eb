// Where a trace's time went, by service.

import { duration, percent, plural } from "../format";
import { METHOD_LIST } from "../links";
import { Failed } from "./marks";
import type { Tree } from "./tree";

export function ServiceTimes({ tree, palette }: { tree: Tree; palette: ReadonlyMap<string, string> }) {
  const network = tree.services.reduce((sum, service) => sum + service.network, 0);
  const all = tree.services.reduce((sum, service) => sum + service.self, network);
  const most = Math.max(network, ...tree.services.map((service) => service.self), 1e-9);
  return (
    <table class="times">
      <caption class="visually-hidden">Self time of the spans of each service; what clients waited beyond their servers' spans has a line of its own</caption>
      <thead><tr><th scope="col">Service</th><th scope="col" class="number">Spans</th><th scope="col" class="number">Self time</th><th scope="col" class="number">Share</th></tr></thead>
      <tbody>
        {tree.services.map((service) => (
          <tr key={service.name} class={`tone-${palette.get(service.name) ?? "c1"}`}>
            <th scope="row">
              <span class="times-name"><span class="wf-tone" aria-hidden="true" /><span class="clip" title={service.name}>{service.name || "no service"}</span>{service.errors > 0 && <Failed label={plural(service.errors, "error")} />}</span>
              <span class="times-bar" aria-hidden="true"><span style={{ width: `${100 * service.self / most}%` }} /></span>
            </th>
            <td class="number">{service.spans}</td><td class="number">{duration(service.self)}</td><td class="number muted">{percent(all > 0 ? service.self / all : 0)}</td>
          </tr>
        ))}
        {network > 0 && (
          <tr>
            <th scope="row"><span class="times-name"><span class="wf-tone net" aria-hidden="true" /><span class="muted">between the two ends (queue, scheduling, network)</span></span>
              <span class="times-bar net" aria-hidden="true"><span style={{ width: `${100 * network / most}%` }} /></span></th>
            <td /><td class="number">{duration(network)}</td><td class="number muted">{percent(all > 0 ? network / all : 0)}</td>
          </tr>
        )}
      </tbody>
    </table>
  );
}

/** What the bars' parts mean. */
export function Legend() {
  return (
    <ul class="legend" aria-label="Legend">
      <li><span class="key own" aria-hidden="true" />self time</li>
      <li><span class="key covered" aria-hidden="true" />waits for spans below</li>
      <li><span class="key net" aria-hidden="true" />between the ends: client less server</li>
      <li><span class="key critical" aria-hidden="true" />critical path</li>
      <li><span class="key byte" aria-hidden="true" />first byte</li>
      <li><Failed label="" /> failed</li>
      <li title={METHOD_LIST}><span class="wf-tag" aria-hidden="true">conn</span>how the parent was found</li>
    </ul>
  );
}
