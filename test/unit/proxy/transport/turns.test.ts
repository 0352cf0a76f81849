import { describe, expect, it } from "vitest";
import { TURN_MS, Turns } from "../../../../src/proxy/transport/turns.ts";

function make() {
  let now = 0;
  let due: (() => void)[] = [];
  const turns = new Turns(
    () => now,
    (callback) => void due.push(callback),
  );
  return {
    turns,
    work: (ms: number) => {
      now += ms;
    },
    get due() {
      return due.length;
    },
    next() {
      const callbacks = due;
      due = [];
      for (const callback of callbacks) callback();
    },
  };
}

describe("work that can wait", () => {
  it("is done in order, and for so long per turn as requests can bear", () => {
    const loop = make();
    const done: number[] = [];
    for (let i = 0; i < 10; i++)
      loop.turns.add(() => {
        done.push(i);
        loop.work(TURN_MS / 2);
      });
    expect([done.length, loop.due]).toEqual([0, 1]);
    for (let turn = 1; turn <= 5; turn++) {
      loop.next();
      expect(done).toHaveLength(2 * turn);
    }
    expect(loop.due).toBe(0);
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("goes round: what a piece adds waits for the others", () => {
    const loop = make();
    const done: string[] = [];
    const some = (name: string, left: number) => () => {
      done.push(name);
      loop.work(TURN_MS);
      if (left > 0) loop.turns.add(some(name, left - 1));
    };
    loop.turns.add(some("a", 2));
    loop.turns.add(some("b", 1));
    while (loop.due > 0) loop.next();
    expect(done).toEqual(["a", "b", "a", "b", "a"]);
  });

  it("begins again after it had come to its end", () => {
    const loop = make();
    let done = 0;
    for (let i = 0; i < 3; i++) {
      loop.turns.add(() => done++);
      expect(loop.due).toBe(1);
      loop.next();
    }
    expect([done, loop.due]).toEqual([3, 0]);
  });
});
