import { RE2JS } from "re2js";
import { ProxyError } from "../core/errors.ts";
import {
  eachInboundPattern,
  eachOutboundPattern,
  type InboundPolicy,
  type OutboundPolicy,
  type Pattern,
  type TextTest,
} from "../policy/index.ts";

// A policy repeats its expressions over routes and updates; more than this many different ones are compiled again.
const MAX_REMEMBERED = 1024;
// Rust's `regex` refuses programs above 10 MiB; no honest route needs a longer text than this.
const MAX_SOURCE_LENGTH = 8192;
// Linear is not short: a step takes some 150 ns, and there are as many as the program is long times the text. A longer
// match than this, a third of a second, would be a pause for everybody else.
const MAX_STEPS = 2_000_000;

const remembered = new Map<string, TextTest>();

/**
 * Compiles an expression (RE2: linear time, so a policy cannot stall us and neither can a path that was built for it).
 * The syntax is close to Rust's `regex`, which Linkerd uses; `(?P<name>…)` works in both.
 *
 * @returns A test whether the leftmost match spans the whole text, which throws a {@link ProxyError} for a text too long to
 * be tested in time; undefined if the expression is not valid.
 */
export function compilePattern(source: string): TextTest | undefined {
  const known = remembered.get(source);
  if (known !== undefined) return known;
  const test = compile(source);
  if (test !== undefined && remembered.size < MAX_REMEMBERED) remembered.set(source, test);
  return test;
}

function compile(source: string): TextTest | undefined {
  if (source.length > MAX_SOURCE_LENGTH) return undefined;
  try {
    const expression = RE2JS.compile(source);
    const maxLength = MAX_STEPS / expression.programSize();
    return (text) => {
      // Not "no match": another route would take what this one protects.
      if (text.length > maxLength) throw new ProxyError("unexpected", "too long for a route's regular expression");
      // The automaton answers most requests: without an anchored match there is none of the kind below either.
      if (!expression.testExact(text)) return false;
      const matcher = expression.matcher(text);
      // Leftmost-first, not anchored: the span is compared afterwards, as linkerd/http/route does.
      return matcher.find() && matcher.start() === 0 && matcher.end() === text.length;
    };
  } catch {
    return undefined;
  }
}

const NEVER: TextTest = () => false;

function install(pattern: Pattern): void {
  // Invalid expressions were refused when the policy was decoded; a stored one from another version may still differ.
  pattern.matches = compilePattern(pattern.source) ?? NEVER;
}

/** Makes a policy that came from another thread or from a file ready for use. */
export function installInboundPatterns(policy: InboundPolicy): void {
  eachInboundPattern(policy, install);
}

/** As {@link installInboundPatterns}. */
export function installOutboundPatterns(policy: OutboundPolicy): void {
  eachOutboundPattern(policy, install);
}
