/** One series of a metrics page. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Reads a page in Prometheus' text format; what is no sample is passed over. */
export function parseExposition(page: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of page.split("\n")) {
    const match = LINE.exec(line);
    if (line.startsWith("#") || match === null) continue;
    const [, name = "", labelText = "", value = ""] = match;
    const labels: Record<string, string> = {};
    for (const [, key = "", text = ""] of labelText.matchAll(LABEL)) {
      labels[key] = text.replace(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
    }
    samples.push({ name, labels, value: Number(value) });
  }
  return samples;
}
