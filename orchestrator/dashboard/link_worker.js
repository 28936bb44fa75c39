// The connection to the broker, in a thread of its own: whatever comes in, the page stays fluid. It decodes, and hands
// on what it has some sixty times a second, so many at a time. Passwords stay in this thread's memory.

import mqtt from "./vendor/mqtt.esm.js";
import { decode } from "./msgpack.js";
import { isObject } from "./shape.js";
import { SUBSCRIPTIONS, parseTopic } from "./topics.js";

const BATCH_MAX = 500;
const BATCH_MILLISECONDS = 16;
const KEEPALIVE_SECONDS = 30;
const RETRY_MILLISECONDS = 2000;
const PAYLOAD_BYTES_MAX = 65_536;
const REFUSED = 128;
const OLD_PROTOCOL_CODES = new Set([1, 132]);
const DENIED_CODES = new Set([4, 5, 134, 135]);

let client = null;
let login = null;
let waiting = [];
let timer = null;
let watched = "";

onmessage = ({ data }) => {
  if (data.type === "open") open(data.login, 5);
  else if (data.type === "close") close();
  else if (data.type === "publish") publish(data);
  else if (data.type === "watch") watch(data.device);
};

function close() {
  client?.end(true);
  client = null;
  login = null;
  waiting = [];
}

function open(given, protocolVersion) {
  client?.end(true);
  login = given;
  const { url, user, password } = login;
  const mine = mqtt.connect(url, {
    username: user || undefined,
    password: password || undefined,
    clientId: `tidegate-page-${random()}`,
    protocolVersion,
    clean: true,
    keepalive: KEEPALIVE_SECONDS,
    reconnectPeriod: RETRY_MILLISECONDS,
    connectTimeout: 8000,
    timerVariant: "native",
    resubscribe: false,
    queueQoSZero: false,
  });
  client = mine;
  mine.on("connect", () => subscribe(mine));
  mine.on("message", (topic, payload, packet) => hear(topic, payload, packet.retain));
  mine.on("close", () => mine === client && postMessage({ type: "lost" }));
  mine.on("error", (error) => mine === client && fail(mine, error, protocolVersion));
}

function fail(mine, error, protocolVersion) {
  if (OLD_PROTOCOL_CODES.has(error.code) && protocolVersion === 5) {
    open(login, 4);
    return;
  }
  const isDenied = DENIED_CODES.has(error.code);
  if (isDenied) mine.end(true); // asking again with the same password changes nothing
  postMessage({ type: "trouble", text: error.message || String(error), isDenied });
}

async function subscribe(mine) {
  postMessage({ type: "connected", at: Date.now() }); // before any message of this connection, by the same clock
  const own = { filter: `ops/${login.user}/reply/+`, qos: 1, what: "answers to your commands" };
  const wanted = SUBSCRIPTIONS.filter((each) => !(login.isLight && each.filter.startsWith("device/")));
  for (const each of login.user ? [own, ...wanted] : wanted) {
    const codes = await new Promise((done) => {
      mine.subscribe(`${login.root}/${each.filter}`, { qos: each.qos }, (error, granted, packet) => {
        done(packet?.granted ?? (error ? [REFUSED] : []));
      });
    });
    if (mine !== client) return;
    if (codes.some((code) => code >= REFUSED)) postMessage({ type: "refused", what: each.what });
  }
  if (watched) mine.subscribe(filtersOf(watched), { qos: 1 }, () => {});
  postMessage({ type: "subscribed" });
}

function watch(device) {
  const before = watched;
  watched = device;
  if (!client?.connected) return;
  if (before) client.unsubscribe(filtersOf(before), () => {});
  if (device) client.subscribe(filtersOf(device), { qos: 1 }, () => {});
}

/** What is read of one device alone: its health, and where nothing is read of all devices, its documents. */
function filtersOf(device) {
  const documents = ["availability", "info", "desired", "reported", "event/+"].map(
    (each) => `device/${device}/${each}`,
  );
  return [`health/+/${device}`, ...(login.isLight ? documents : [])].map((each) => `${login.root}/${each}`);
}

function publish({ id, topic, payload, retain }) {
  const done = (error) => postMessage({ type: "published", id, error: error ? refusal(error) : "" });
  if (!client?.connected) done(new Error("there is no connection to the broker"));
  else client.publish(`${login.root}/${topic}`, payload, { qos: 1, retain }, done);
}

function refusal(error) {
  return error.code === 135 ? "the broker's access list does not let you publish this" : error.message || String(error);
}

function hear(topic, payload, retained) {
  const address = login && parseTopic(login.root, topic);
  if (!address || payload.length > PAYLOAD_BYTES_MAX) return;
  waiting.push({ ...address, body: bodyOf(address.kind, payload), retained });
  timer ??= setTimeout(handOn, BATCH_MILLISECONDS);
}

/** Text for presence, null for a document that was taken away or cannot be read. */
function bodyOf(kind, payload) {
  if (kind.endsWith("availability")) return new TextDecoder().decode(payload);
  if (payload.length === 0) return null;
  const unreadable = kind === "health" || kind === "hold" ? { unreadable: true } : undefined; // any brake counts
  try {
    const body = decode(payload);
    return kind === "hold" && !isObject(body) ? unreadable : body;
  } catch {
    return unreadable;
  }
}

function handOn() {
  timer = null;
  postMessage({ type: "messages", messages: waiting.splice(0, BATCH_MAX), at: Date.now() });
  if (waiting.length > 0) timer = setTimeout(handOn, BATCH_MILLISECONDS);
}

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
