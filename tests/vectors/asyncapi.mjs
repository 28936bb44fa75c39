// What AsyncAPI's official parser says of a document; see `make asyncapi`.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const each of diagnostics) console.log(`${each.path.join(".")}: ${each.message}`);
console.log(`${diagnostics.length} diagnostics`);
process.exit(document && diagnostics.length === 0 ? 0 : 1);
