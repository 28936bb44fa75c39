// Print what each sample of a fleet's health says, and what has changed since the one before.
//
// Usage: npm install mqtt @msgpack/msgpack; node telemetry.mjs mqtt://viewer:PASSWORD@127.0.0.1:1884
import { decode } from "@msgpack/msgpack";
import { connect } from "mqtt";

const TOPIC = "fleet/v1/health/+/+"; // shard, device
const seen = new Map(); // by device: when the last sample came, and what it said

const client = connect(process.argv[2] ?? "mqtt://127.0.0.1:1883");
client.on("connect", () => client.subscribe(TOPIC, { qos: 0 }));
client.on("error", (error) => console.error(error.message));

client.on("message", (topic, payload) => {
  const device = topic.split("/").at(-1);
  const now = performance.now();
  const sample = read(payload);
  const before = seen.get(device);
  seen.set(device, { at: now, sample });
  if (before === undefined || before.sample.boot_id !== sample.boot_id) {
    return; // the first, or counters began again: there is nothing to compare with
  }
  const health = sample.healthy ? "healthy" : "not healthy";
  const counted = ["requests", "errors"].map((name) => `${grown(before.sample, sample, name)} ${name}`).join(", ");
  const seconds = ((now - before.at) / 1000).toFixed(1);
  console.log(`${device}  ${sample.version}  ${health}  ${counted} in ${seconds} s`);
});

// In JSON or, as the agent sends it, in msgpack; the first byte tells.
function read(payload) {
  try {
    return payload[0] === 0x7b ? JSON.parse(payload.toString()) : decode(payload);
  } catch {
    return {}; // no sample; the orchestrator counts those
  }
}

function grown(before, after, name) {
  const [first, last] = [before[`${name}_total`], after[`${name}_total`]];
  return first == null || last == null ? "-" : last - first;
}
