import { X509Certificate } from "@peculiar/x509";
import { derElements } from "./der.ts";

/** What a CA certificate allows the names under it to be (RFC 5280 §4.2.1.10), as far as our leaves have such names. */
interface Subtrees {
  readonly dns: readonly string[];
  readonly uri: readonly string[];
}

interface NameConstraints {
  readonly permitted: Subtrees;
  readonly excluded: Subtrees;
}

const NAME_CONSTRAINTS = "2.5.29.30";
const SEQUENCE = 0x30;
// Context tags: of the two lists, and of the general names (dNSName, uniformResourceIdentifier).
const PERMITTED = 0xa0;
const EXCLUDED = 0xa1;
const DNS = 0x82;
const URI = 0x86;

/**
 * Whether the name constraints of a chain of CAs let a leaf have these names. Peers judge that in the handshake; a
 * certificate that none of them accepts must not be issued.
 *
 * @param authorities - DER of every CA above the leaf, the root too.
 * @returns what is wrong, as one line; undefined if nothing is.
 */
export function forbidden(
  authorities: readonly Uint8Array[],
  names: { readonly dns: string; readonly uri: string | undefined },
): string | undefined {
  for (const der of authorities) {
    const constraints = constraintsOf(der);
    if (constraints === undefined) continue;
    const { permitted, excluded } = constraints;
    if (!allowed(permitted.dns, excluded.dns, (base) => underDns(names.dns, base))) return names.dns;
    const host = names.uri === undefined ? undefined : /^[a-z]+:\/\/([^/:]+)/.exec(names.uri)?.[1];
    if (host !== undefined && !allowed(permitted.uri, excluded.uri, (base) => underUri(host, base))) return names.uri;
  }
  return undefined;
}

function allowed(
  permitted: readonly string[],
  excluded: readonly string[],
  within: (base: string) => boolean,
): boolean {
  return (permitted.length === 0 || permitted.some(within)) && !excluded.some(within);
}

// Any number of labels may be added on the left.
function underDns(name: string, base: string): boolean {
  const suffix = base.toLowerCase().replace(/^\./, "");
  const low = name.toLowerCase();
  return suffix === "" || low === suffix || low.endsWith(`.${suffix}`);
}

// A leading period: hosts below; none: this host alone.
function underUri(host: string, base: string): boolean {
  const wanted = base.toLowerCase();
  return wanted.startsWith(".") ? host.endsWith(wanted) : host === wanted;
}

function constraintsOf(der: Uint8Array): NameConstraints | undefined {
  const extension = new X509Certificate(new Uint8Array(der)).getExtension(NAME_CONSTRAINTS);
  if (extension === null) return undefined;
  const [outer] = derElements(Buffer.from(extension.value));
  if (outer?.tag !== SEQUENCE) throw new Error("the name constraints of a CA cannot be read");
  const lists = derElements(outer.content);
  const subtrees = (tag: number): Subtrees => {
    const bases = derElements(lists.find((list) => list.tag === tag)?.content ?? Buffer.alloc(0)).flatMap(
      // GeneralSubtree: the base comes first; minimum and maximum are not used in practice.
      ({ content }) => derElements(content).slice(0, 1),
    );
    const of = (kind: number) =>
      bases.filter((base) => base.tag === kind).map((base) => base.content.toString("latin1"));
    return { dns: of(DNS), uri: of(URI) };
  };
  return { permitted: subtrees(PERMITTED), excluded: subtrees(EXCLUDED) };
}
