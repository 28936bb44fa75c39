// Put docs/asyncapi.json and AsyncAPI's own viewer into one page that needs nothing else: node asyncapi_html.mjs VIEWER JSON HTML
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const [viewer, contract, page] = process.argv.slice(2);
const read = (...path) => readFileSync(join(...path), "utf8");
const inline = (text) => text.replaceAll("</script", "<\\/script");

mkdirSync(dirname(page), { recursive: true });
writeFileSync(
  page,
  `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>tidegate: topics and messages</title>
<style>${read(viewer, "styles", "default.min.css")}</style>
<div id="contract"></div>
<script>${inline(read(viewer, "browser", "standalone", "index.js"))}</script>
<script>
AsyncApiStandalone.render({ schema: ${inline(JSON.stringify(JSON.parse(read(contract))))}, config: { show: { errors: true } } }, document.getElementById("contract"));
</script>
</html>
`,
);
