import { describe, expect, it } from "vitest";
import { type CelValue, evaluate, parseExpression } from "../../../../src/lab/api/cel/index.ts";

const SCOPE = { object: { a: "x.y.z", list: [1, 2, 3], map: { "k/v": "w" }, none: null }, yes: true } as const;
const value = (text: string) => evaluate(parseExpression(text), SCOPE as unknown as Record<string, CelValue>);

describe("CEL", () => {
  it.each<[string, unknown]>([
    ["1 + 2 == 3 && !(2 > 3)", true],
    ["object.a.split('.')[1]", "y"],
    ["object.a.substring(object.a.lastIndexOf('.') + 1)", "z"],
    ["object.a.substring(0, 1) + '-' + \"q\"", "x-q"],
    ["object.a.matches('^[^.]+[.]y')", true],
    ["has(object.a) && !has(object.b)", true],
    ["'k/v' in object.map ? object.map['k/v'] : ''", "w"],
    ["2 in object.list", true],
    ["[true, false, true].filter(x, x).size() == 2", true],
    ["object.list.all(n, n > 0) && object.list.exists(n, n == 3)", true],
    ["object.list.map(n, n + 1)", [2, 3, 4]],
    ["object.map == {} || object.none == null", undefined],
    ["yes ? [1] : []", [1]],
    // One side decides: the error of the other is absorbed, on either side.
    ["object.missing == 1 || yes", true],
    ["yes || object.missing == 1", true],
    ["object.missing == 1 && false", false],
  ])("%s", (text, wanted) => {
    if (wanted === undefined) expect(() => value(text)).toThrow(SyntaxError);
    else expect(value(text)).toEqual(wanted);
  });

  it.each(["object.missing", "object.list[9]", "nobody", "1 + 'a'", "object.a.shout()", "fn(1)", "yes + 1"])(
    "has no value for %s",
    (text) => expect(() => value(text)).toThrow(expect.objectContaining({ name: "CelError" })),
  );

  it.each(["", "1 +", "(1", "a.", "'open", "a b", "1 ? 2", "§"])("cannot read %j", (text) => {
    expect(() => parseExpression(text)).toThrow(SyntaxError);
  });
});
