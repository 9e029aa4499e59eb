// A query in lines: a break before each clause, outside of quotes and comments. No parser: what it does not know stays.

const LONGEST = 8000;
const CLAUSE = /[ \t]{1,4}(?=(?:FROM|WHERE|GROUP BY|ORDER BY|HAVING|LIMIT|OFFSET|(?:LEFT |RIGHT |FULL |INNER |CROSS |NATURAL )(?:OUTER )?JOIN|(?<!(?:LEFT|RIGHT|FULL|INNER|CROSS|NATURAL|OUTER)[ \t]{1,4})JOIN|VALUES|SET|RETURNING|UNION|ON CONFLICT)\b)/gi;
const PART = /[ \t]{1,4}(?=(?:AND|OR)\b)/gi;
const QUOTED = /('(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$\$[\s\S]*?\$\$|\/\*[\s\S]*?\*\/|--[^\n]*)/;

/** "SELECT a FROM b WHERE c AND d" → four lines, "AND" two blanks in. Text that has lines already is left as it is. */
export function sqlLines(text: string): string {
  if (text.length > LONGEST || text.includes("\n")) return text;
  return text.split(QUOTED).map((part, index) => (index % 2 ? part : part.replace(CLAUSE, "\n").replace(PART, "\n  "))).join("");
}
