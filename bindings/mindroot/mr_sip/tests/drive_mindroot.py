"""Drives a running MindRoot from outside and says whether mr_sip works in it: used by try_in_mindroot.sh, standard
library only.

Prints one line a check; ends with status 0 where all of them hold.
"""

from __future__ import annotations

import argparse
import glob
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Callable

import callee

EXPECTED = pathlib.Path(__file__).resolve().parent.parent / "plugin_info.json"
# A call with several turns, on a loaded machine with a real recogniser.
PATIENCE_S = 120.0

failures = 0


def check(what: str, held: bool, detail: str = "") -> bool:
    global failures
    failures += not held
    print(f"  {'ok  ' if held else 'FAIL'} {what}{': ' + detail if detail else ''}", flush=True)
    return held


class Server:
    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def chat(self, log_id: str, text: str) -> None:
        self.post(f"/chat/{log_id}/send", [{"type": "text", "text": text}])

    def command(self, log_id: str, name: str, **args: Any) -> Any:
        body = self.post(f"/cmd/{log_id}", {"command": name, "args": args})
        if body.get("status") != "ok":
            raise RuntimeError(f"{name}: {body}")
        return body["result"]


def wait_for(what: str, condition: Callable[[], Any]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return check(what, True)
        time.sleep(0.1)
    return check(what, False, f"did not come within {PATIENCE_S:.0f} s")


def history(site: pathlib.Path, log_id: str, role: str) -> list[str]:
    """What `role` said in the conversation, as MindRoot wrote it down."""
    files = glob.glob(str(site / "data" / "chat" / "*" / "*" / f"chatlog_{log_id}.json"))
    try:
        messages = json.loads(pathlib.Path(files[0]).read_text())["messages"] if files else []
    except ValueError:
        # Being written at this moment.
        return []
    return [json.dumps(message["content"]) for message in messages if message["role"] == role]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--site", required=True, type=pathlib.Path)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--destination", required=True)
    parser.add_argument("--expect", action="append", default=[], help="what the caller is to be understood as saying")
    parser.add_argument("--interrupted", action="store_true", help="the caller interrupts the agent")
    parser.add_argument("--pair", nargs=2, help="two who are called at the same moment by two agents")
    parser.add_argument("--callee", type=pathlib.Path, help="folder of the baresip that is called")
    parser.add_argument("--daemon-log", type=pathlib.Path, help="where the stand-in daemon writes what was heard")
    parser.add_argument("--busy", default="", help="a destination that is busy")
    options = parser.parse_args()
    server = Server(options.url, options.key)

    log_id = server.get(f"/makesession/{options.agent}?api_key={options.key}")["log_id"]
    info = json.loads(EXPECTED.read_text())
    found = server.command(log_id, "registered", what="mr_sip")
    for kind in ("commands", "services"):
        missing = sorted(set(info[kind]) - set(found[kind]))
        check(f"{len(info[kind])} {kind} registered", not missing, f"missing {missing}" if missing else "")

    check("an emergency number is blocked", "emergency" in str(server.command(log_id, "call", destination="911")))
    check("hanging up without a call is said", "no call" in str(server.command(log_id, "hangup")))
    if options.busy:
        check("a busy line is said", "busy" in str(server.command(log_id, "call", destination=options.busy)))

    print(f"  calling {options.destination}", flush=True)
    result = server.command(log_id, "call", destination=options.destination)
    if not check("the call is established", result is None, str(result or "")):
        return 1

    def said(role: str, words: str, where: str = log_id) -> Callable[[], bool]:
        return lambda: any(words.lower() in text.lower() for text in history(options.site, where, role))

    for sentence in options.expect:
        wait_for(f"the agent hears {sentence!r}", said("user", sentence))
    if options.expect:
        wait_for("the agent answers", said("assistant", f"You said: {options.expect[-1]}"))
    wait_for("the agent is told of the end", said("user", "CALL DISCONNECTED"))
    if options.interrupted:
        wait_for(
            "what was not heard of an interrupted answer is gone from its history", said("assistant", "[interrupted]")
        )
    if options.callee:
        seconds = callee.heard(options.callee)
        check("the other side heard the agent's voice", seconds > 2, f"{seconds:.1f} s")
    if options.daemon_log:
        lines = options.daemon_log.read_text().splitlines()
        heard_ms = [json.loads(line)["heard_ms"] for line in lines if line.startswith("{") and "heard_ms" in line]
        check("the other side heard every answer", all(heard_ms[0]) if heard_ms else False, f"{heard_ms} ms")
    check("afterwards there is no call", "no call" in str(server.command(log_id, "hangup")))

    if options.pair:
        both = {
            name: server.get(f"/makesession/{options.agent}?api_key={options.key}")["log_id"] for name in options.pair
        }
        for name, its_log in both.items():
            server.chat(its_log, f"Please call sip:{name}@example.invalid")
        for name, its_log in both.items():
            wait_for(
                f"the agent that was told to call {name} hears the end", said("user", "CALL DISCONNECTED", its_log)
            )
        for name, its_log in both.items():
            told = [text for text in history(options.site, its_log, "user") if "_one" in text or "_two" in text]
            check(f"and heard {name} alone", bool(told) and all(name in text for text in told), str(told))

    second = server.get(f"/makesession/{options.agent}?api_key={options.key}")["log_id"]
    result = server.command(second, "call", destination=options.destination)
    if check("a second conversation calls", result is None, str(result or "")):
        text = str(server.command(second, "hangup"))
        check("its agent hangs up and reads how long it was", "call ended after" in text, text.splitlines()[0])
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (urllib.error.URLError, RuntimeError, OSError) as error:
        print(f"  FAIL {error}")
        sys.exit(1)
