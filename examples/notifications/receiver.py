"""A receiver of tidegate's webhooks that needs Python alone: it checks the signature, takes each id once, and answers.

    TIDEGATE_WEBHOOK_SECRET=... python receiver.py [PORT]

``/confirm`` answers the question of a destination with ``approves: true``. Put your own check where it says so.
"""

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["TIDEGATE_WEBHOOK_SECRET"].encode()
AGE_MAX_SECONDS = 300
BODY_BYTES_MAX = 1 << 20
seen: set[str] = set()


def is_genuine(timestamp: str, body: bytes, signature: str) -> bool:
    """Say whether a request is tidegate's, unchanged and not an old one."""
    expected = "sha256=" + hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    is_fresh = timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= AGE_MAX_SECONDS  # noqa: TID251 - the program's clock
    return is_fresh and hmac.compare_digest(expected.encode(), signature.encode())


def decide(question: dict) -> dict:
    """Say whether a rollout may go on: go, stop, or wait to be asked again. Your own check belongs here."""
    checks = question["gates"].get(question["rollout"]["wave"], {}).get("checks", [])
    if any(check["verdict"] != "pass" for check in checks if not check.get("dry_run")):
        return {"decision": "wait", "reason": "not every check passes"}
    return {"decision": "go", "reason": f"{len(checks)} checks pass"}


class Handler(BaseHTTPRequestHandler):
    """Takes what is genuine."""

    def do_POST(self) -> None:
        """Check, take, answer."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, BODY_BYTES_MAX))
        timestamp, signature = (
            self.headers.get("X-Tidegate-Timestamp", ""),
            self.headers.get("X-Tidegate-Signature", ""),
        )
        if not is_genuine(timestamp, body, signature):
            self.answer(401, {"error": "not signed by whom I know, or too old"})
            return
        told = json.loads(body)
        if told["confirm"]:
            self.answer(200, decide(told))
            return
        place = f"{self.path} {told['id']}"
        if place not in seen:  # What is sent again has the same id.
            seen.add(place)
            print(f"{self.path} {told['trigger']}: {told['title']}\n{told['text']}", flush=True)
        self.answer(200, {})

    def answer(self, status: int, content: dict) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8099), Handler)
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()
