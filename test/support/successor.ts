/** What a running agent starts in its place: it says that it serves, perhaps that it has passed that on, and ends. */
import { readPredecessor } from "../../src/agent/upgrade.ts";

const predecessor = readPredecessor(process.env);
predecessor?.ready();
if (process.argv[2] === "passes-on") predecessor?.passedOn();
