// Attributes as a list: long values are cut until they are asked for, each can be copied and searched for.

import { Fragment } from "preact";
import { useState } from "preact/hooks";
import type { Attributes } from "../api";
import { exact } from "../format";
import { Copy } from "../ui/copy";
import { href } from "../url";
import { sqlLines } from "./sql";
import { filtered } from "./values";

const SHOWN = 400;
const ROWS = 100;

export function AttributeList({ attributes, filter = "", searchable = false }: { attributes: Attributes; filter?: string; searchable?: boolean }) {
  const [all, setAll] = useState(false);
  const found = filtered(attributes, filter);
  if (found.length === 0) return <p class="muted none">{filter ? `Nothing here has “${filter}”.` : "None."}</p>;
  const shown = all ? found : found.slice(0, ROWS);
  return (
    <>
      <dl class="attributes">
        {shown.map(([key, value]) => (
          <div key={key}>
            <dt title={key}>{key.split(/(?<=[._])/).map((part, index) => <Fragment key={index}>{part}<wbr /></Fragment>)}</dt>
            <dd>
              <Value name={key} value={value} />
              <span class="attribute-tools">
                {searchable && value.length <= 256 && <a href={href("/traces", { attr: [`${key}=${value}`] })} aria-label={`Find traces with this ${key}`} title="Find traces with this value"><Lens /></a>}
                <Copy text={value} label={`Copy ${key}`} />
              </span>
            </dd>
          </div>
        ))}
      </dl>
      {shown.length < found.length && <button type="button" class="button more-rows" onClick={() => setAll(true)}>Show all {exact(found.length)} attributes</button>}
    </>
  );
}

function Value({ name, value }: { name: string; value: string }) {
  const [all, setAll] = useState(false);
  const text = name === "db.query.text" || name === "db.statement" ? sqlLines(value) : value;
  const cut = !all && text.length > SHOWN;
  return (
    <span class="value-box">
      <span class={text.includes("\n") || name.startsWith("db.query") ? "value block" : "value"}>{cut ? `${text.slice(0, SHOWN)}…` : text}</span>
      {text.length > SHOWN && <button type="button" class="link" onClick={() => setAll(!all)}>{all ? "Show less" : `Show all ${exact(text.length)} characters`}</button>}
    </span>
  );
}

function Lens() {
  return <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.3"><circle cx="5" cy="5" r="3.6" /><path d="m8 8 3 3" stroke-linecap="round" /></svg>;
}
