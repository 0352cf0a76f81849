/** A parsed expression: plain data. */
export type Expression =
  | { readonly kind: "literal"; readonly value: string | number | boolean | null }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "list"; readonly items: readonly Expression[] }
  | { readonly kind: "member"; readonly of: Expression; readonly field: string }
  | { readonly kind: "index"; readonly of: Expression; readonly at: Expression }
  | {
      readonly kind: "call";
      /** The receiver of a method; absent for a function. */
      readonly on: Expression | undefined;
      readonly name: string;
      readonly args: readonly Expression[];
    }
  | { readonly kind: "unary"; readonly operator: string; readonly of: Expression }
  | { readonly kind: "binary"; readonly operator: string; readonly left: Expression; readonly right: Expression }
  | {
      readonly kind: "choice";
      readonly condition: Expression;
      readonly then: Expression;
      readonly otherwise: Expression;
    };

// Longest first. Strings may be quoted either way; escapes are those of the specification that JSON has too.
const TOKEN =
  /\s*(?:(\d+(?![\w.]))|([A-Za-z_]\w*)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(\|\||&&|==|!=|<=|>=|[-+*/%!<>?:.,()[\]]))/y;

const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["==", "!=", "<", "<=", ">", ">=", "in"],
  ["+", "-"],
  ["*", "/", "%"],
];

/** @throws SyntaxError that names the place. */
export function parseExpression(source: string): Expression {
  const parser = new Parser(tokens(source));
  const expression = parser.choice();
  parser.end();
  return expression;
}

interface Token {
  readonly kind: "number" | "word" | "string" | "sign" | "end";
  readonly text: string;
  readonly at: number;
}

function tokens(source: string): Token[] {
  const found: Token[] = [];
  TOKEN.lastIndex = 0;
  while (source.slice(TOKEN.lastIndex).trim() !== "") {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(source);
    if (match === null) throw new SyntaxError(`CEL: cannot read ${JSON.stringify(source.slice(at, at + 20))} at ${at}`);
    const [, number, word, string, sign] = match;
    const kind =
      number !== undefined ? "number" : word !== undefined ? "word" : string !== undefined ? "string" : "sign";
    found.push({ kind, text: number ?? word ?? string ?? sign ?? "", at });
  }
  found.push({ kind: "end", text: "", at: source.length });
  return found;
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(all: readonly Token[]) {
    this.#tokens = all;
  }

  choice(): Expression {
    const condition = this.#binary(0);
    if (!this.#take("?")) return condition;
    const then = this.#binary(0);
    this.#expect(":");
    return { kind: "choice", condition, then, otherwise: this.choice() };
  }

  end(): void {
    if (this.#token.kind !== "end") this.#fail();
  }

  #binary(level: number): Expression {
    const operators = LEVELS[level];
    if (operators === undefined) return this.#unary();
    let left = this.#binary(level + 1);
    for (;;) {
      const { kind, text } = this.#token;
      if ((kind !== "sign" && text !== "in") || !operators.includes(text)) return left;
      this.#at++;
      left = { kind: "binary", operator: text, left, right: this.#binary(level + 1) };
    }
  }

  #unary(): Expression {
    for (const operator of ["!", "-"]) if (this.#take(operator)) return { kind: "unary", operator, of: this.#unary() };
    return this.#postfix(this.#primary());
  }

  #postfix(of: Expression): Expression {
    if (this.#take(".")) {
      const field = this.#word();
      const args = this.#token.text === "(" ? this.#arguments() : undefined;
      return this.#postfix(
        args === undefined ? { kind: "member", of, field } : { kind: "call", on: of, name: field, args },
      );
    }
    if (this.#take("[")) {
      const at = this.choice();
      this.#expect("]");
      return this.#postfix({ kind: "index", of, at });
    }
    return of;
  }

  #primary(): Expression {
    const { kind, text } = this.#token;
    if (kind === "number" || kind === "string") {
      this.#at++;
      return { kind: "literal", value: kind === "number" ? Number(text) : unquote(text) };
    }
    if (kind === "word") {
      this.#at++;
      if (text === "true" || text === "false") return { kind: "literal", value: text === "true" };
      if (text === "null") return { kind: "literal", value: null };
      if (this.#token.text === "(") return { kind: "call", on: undefined, name: text, args: this.#arguments() };
      return { kind: "name", name: text };
    }
    if (this.#take("(")) {
      const inner = this.choice();
      this.#expect(")");
      return inner;
    }
    if (this.#take("[")) return { kind: "list", items: this.#list("]") };
    return this.#fail();
  }

  #arguments(): readonly Expression[] {
    this.#expect("(");
    return this.#list(")");
  }

  #list(end: string): readonly Expression[] {
    const items: Expression[] = [];
    while (!this.#take(end)) {
      if (items.length > 0) this.#expect(",");
      items.push(this.choice());
    }
    return items;
  }

  get #token(): Token {
    return this.#tokens[this.#at] as Token;
  }

  #word(): string {
    const { kind, text } = this.#token;
    if (kind !== "word") this.#fail();
    this.#at++;
    return text;
  }

  #take(sign: string): boolean {
    const { kind, text } = this.#token;
    if (kind !== "sign" || text !== sign) return false;
    this.#at++;
    return true;
  }

  #expect(sign: string): void {
    if (!this.#take(sign)) this.#fail();
  }

  #fail(): never {
    const { text, at } = this.#token;
    throw new SyntaxError(`CEL: unexpected ${text === "" ? "end" : JSON.stringify(text)} at ${at}`);
  }
}

function unquote(text: string): string {
  return text.slice(1, -1).replace(/\\(.)/g, (_, char: string) => ({ n: "\n", t: "\t", r: "\r" })[char] ?? char);
}
