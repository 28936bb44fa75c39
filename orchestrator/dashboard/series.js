// From counters to what people look at: rates between two samples, gaps where a device started anew.

/** Return columns for charts, `{seconds, errors, requests, p95, memory, cpu, temperature}`; null is a gap. */
export function seriesOf(samples) {
  const found = { seconds: [], errors: [], requests: [], p95: [], memory: [], cpu: [], temperature: [] };
  let before = null;
  for (const sample of samples) {
    if (sample.unreadable) continue;
    const elapsed = before && before.boot === sample.boot ? (sample.at - before.at) / 1000 : 0;
    const asked = difference(sample.requests, before?.requests, elapsed);
    const failed = difference(sample.errors, before?.errors, elapsed);
    found.seconds.push(sample.at / 1000);
    found.requests.push(asked === null ? null : asked / elapsed);
    found.errors.push(asked === null || failed === null ? null : asked > 0 ? (100 * failed) / asked : 0);
    for (const name of ["p95", "memory", "cpu", "temperature"]) found[name].push(sample[name]);
    before = sample;
  }
  found.p95 = found.p95.map((each) => (each === null ? null : each * 1000));
  found.memory = found.memory.map((each) => (each === null ? null : each / 1e6));
  found.cpu = found.cpu.map((each) => (each === null ? null : each * 100));
  return found;
}

function difference(now, before, elapsed) {
  if (elapsed <= 0 || now === null || before === null || before === undefined || now < before) return null;
  return now - before;
}
