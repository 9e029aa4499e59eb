// What shapes, lines and marks mean.

export function Legend() {
  return (
    <details class="map-legend">
      <summary>Legend</summary>
      <dl>
        <dt><svg width="34" height="18"><rect x="1" y="2" width="32" height="14" rx="4" class="shape" /></svg></dt><dd>service</dd>
        <dt><svg width="34" height="18"><path d="M1 4v10c0 4 32 4 32 0V4c0 4-32 4-32 0s32-4 32 0" class="shape" /></svg></dt><dd>database</dd>
        <dt><svg width="34" height="18"><path d="M5 2h24c5 0 5 14 0 14H5C0 16 0 2 5 2M29 2c-5 0-5 14 0 14" class="shape" /></svg></dt><dd>messaging</dd>
        <dt><svg width="34" height="18"><rect x="1" y="2" width="32" height="14" rx="7" class="shape dashed" /></svg></dt><dd>outside peer</dd>
        <dt><svg width="34" height="18"><path d="M0 5h34" class="stroke thin" /><path d="M0 13h34" class="stroke thick" /></svg></dt><dd>few, many calls (logarithmic)</dd>
        <dt><svg width="34" height="18"><path d="M0 9h34" class="stroke warn" stroke-dasharray="10 4" /><path d="M17 4l5 9h-10z" class="fill warn" /></svg></dt><dd>1 % errors or more</dd>
        <dt><svg width="34" height="18"><path d="M0 9h34" class="stroke bad" stroke-dasharray="5 4" /><path d="M17 3l6 6-6 6-6-6z" class="fill bad" /></svg></dt><dd>5 % errors or more</dd>
        <dt><svg width="34" height="18"><path d="M0 9h34" class="stroke thin" stroke-dasharray="1 4" /></svg></dt><dd>no calls in this window</dd>
      </dl>
      <p class="muted">4xx count as failed for the caller, not for the server (OpenTelemetry).</p>
    </details>
  );
}
