"""A MindRoot of its own in a temporary folder: started, driven by HTTP, stopped and killed."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from typing import Any

from far_end import CONFIG, until

REQUEST_S = 120.0
START_S = 90.0


class MindRoot:
    """`start`, `stop`, `kill`; and what a user can do."""

    def __init__(self, program: str, daemon: str, model: str, plugins: pathlib.Path, folder: pathlib.Path) -> None:
        self.program = pathlib.Path(program)
        self.folder = folder
        self.site = folder / "site"
        self.socket = folder / "run" / "control.sock"
        self.daemon_log = folder / "daemon.log"
        self._daemon = daemon
        self._plugins = plugins
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(16)
        self.port = free_port()
        self.sip_port = free_port(socket.SOCK_DGRAM)
        self.key = ""
        self.site.mkdir(parents=True)
        (folder / "run").mkdir(mode=0o700)
        # Notes the daemon's process number, so that it can be looked for.
        wrapper = folder / "mr-sip"
        wrapper.write_text(f'#!/bin/sh\necho $$ >"{folder}/daemon.pid"\nexec "{daemon}" "$@"\n')
        wrapper.chmod(0o755)
        config = CONFIG.format(folder=folder, model=model, ports="33000-33999", barge_in="true", recording="true")
        (folder / "mr-sip.toml").write_text(config.replace("127.0.0.1:0", f"127.0.0.1:{self.sip_port}"))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SIP_", "MR_", "PYTHONPATH"))},
            "JWT_SECRET_KEY": secrets.token_hex(32),
            "MR_SIP_SOCKET": str(self.socket),
            "MR_SIP_CONFIG": str(folder / "mr-sip.toml"),
            "MR_SIP_BIN": str(wrapper),
            "MR_SIP_LOG_FILE": str(self.daemon_log),
            "MR_SIP_LOG_LEVEL": "INFO",
            "SIP_INCOMING_AGENT": "receptionist",
            "MR_SIP_INCOMING_USER": "tester",
            "SIP_PASSWORD": "not-to-be-seen",
        }

    def prepare(self) -> None:
        """Plugins, a user, a key, agents: what an administrator does once."""
        for name in ("mr_sip", "test_llm", "espeak_voice"):
            code = "import sys; from mindroot.lib.plugins.manifest import update_plugin_manifest as add; "
            self._run(self._python(), "-c", code + "add(*sys.argv[1:])", name, "local", str(self._plugins / name))
        mail, user = "tester@example.com", ("--roles", "admin", "user", "verified")
        self._run(str(self.program), "user", "create", "tester", mail, "--password", self._password, *user)
        said = self._run(str(self.program), "apikey", "create", "tester")
        self.key = next(line.split("Key:")[1].split()[0] for line in said.splitlines() if "Key:" in line)
        talk = ["speak", "note", "registered", "call", "hangup", "send_dtmf", "delegate_call_task", "task_result"]
        for name in ("caller", "receptionist"):
            agent = self.site / "data/agents/local" / name
            agent.mkdir(parents=True)
            model = {"stream_chat": {"provider": "test_llm", "model": "rules-1"}}
            (agent / "agent.json").write_text(
                json.dumps(
                    {
                        "name": name,
                        "persona": "Assistant",
                        "instructions": "Telephone.",
                        "flags": [],
                        "commands": talk,
                        "required_plugins": [],
                        "preferred_providers": [],
                        "service_models": model,
                    }
                )
            )

    async def start(self) -> None:
        with open(self.folder / "mindroot.log", "ab") as output:
            self._process = subprocess.Popen(
                [str(self.program), "-p", str(self.port), "-u", "admin", "-pw", self._password],
                cwd=self.site,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

        async def up() -> bool:
            assert self._process is not None and self._process.poll() is None, "MindRoot ended: see mindroot.log"
            with contextlib.suppress(OSError):
                await asyncio.to_thread(urllib.request.urlopen, f"{self.url}/healthz", timeout=2)
                return True
            return False

        await until("MindRoot", up, START_S)

    async def stop(self) -> None:
        """As an administrator does: SIGTERM."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """As a crash does."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def daemon_pid(self) -> int | None:
        """Of the daemon that the plugin started last, where it still runs."""
        try:
            pid = int((self.folder / "daemon.pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        # One that has ended and was not waited for is not running.
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return None if state == "Z" else pid

    # -- what a user does --------------------------------------------------------------------------------------------

    async def get(self, path: str) -> Any:
        return json.loads(await asyncio.to_thread(self._fetch, path, None))

    async def post(self, path: str, body: Any) -> Any:
        return json.loads(await asyncio.to_thread(self._fetch, path, json.dumps(body).encode()))

    async def raw(self, path: str) -> tuple[int, bytes]:
        """Status and body, whatever the status is."""
        try:
            return 200, await asyncio.to_thread(self._fetch, path, None)
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    async def conversation(self, agent: str = "caller") -> str:
        return str((await self.get(f"/makesession/{agent}?api_key={self.key}"))["log_id"])

    async def chat(self, log_id: str, text: str) -> None:
        await self.post(f"/chat/{log_id}/send", [{"type": "text", "text": text}])

    async def command(self, log_id: str, name: str, /, **args: Any) -> Any:
        answer = await self.post(f"/cmd/{log_id}", {"command": name, "args": args})
        assert answer.get("status") == "ok", f"{name}: {answer}"
        return answer["result"]

    def messages(self, log_id: str, role: str) -> list[str]:
        """What `role` said, as MindRoot wrote it down."""
        files = glob.glob(str(self.site / "data" / "chat" / "*" / "*" / f"chatlog_{log_id}.json"))
        try:
            messages = json.loads(pathlib.Path(files[0]).read_text())["messages"] if files else []
        except ValueError:
            # Being written at this moment.
            return []
        return [text_of(message["content"]) for message in messages if message["role"] == role]

    def spoken(self, log_id: str) -> list[str]:
        """What the agent has spoken, reply by reply, as its history has it."""
        replies = []
        for text in self.messages(log_id, "assistant"):
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                replies += [one["speak"]["text"] for one in json.loads(text) if "speak" in one]
        return replies

    def logs(self, agent: str) -> list[str]:
        """The conversations that an agent has had, oldest first."""
        files = glob.glob(str(self.site / "data" / "chat" / "*" / agent / "chatlog_*.json"))
        return [pathlib.Path(file).stem[len("chatlog_") :] for file in sorted(files, key=os.path.getctime)]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _python(self) -> str:
        return str(self.program.with_name("python"))

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.site, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command[:3]}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
        return done.stdout

    def _fetch(self, path: str, body: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(f"{self.url}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:
            return bytes(answer.read())


def text_of(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
