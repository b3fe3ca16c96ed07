#!/usr/bin/env bash
# Loads the plugin in a real MindRoot and makes a call through it.
#
#   try_in_mindroot.sh [--daemon MR_SIP] [--port N] [--keep]
#
# Without --daemon a stand-in for `mr-sip serve` is used: no telephone, but the real protocol. With --daemon MR_SIP, the
# program `mr-sip` itself calls a baresip that answers, says numbers, interrupts the agent and hangs up (Debian packages
# baresip-core and espeak-ng); WHISPER_MODEL may name another model than the daemon's own.
# Needs python3 (3.10 or newer) with venv, and PyPI: about 250 MB in a temporary folder, a minute or two; ports N to N+4
# on 127.0.0.1, N being 8123. Leaves nothing behind (--keep: leaves the folder). MINDROOT_VENV=DIR uses, or makes, a
# virtual environment that stays. Ends with status 0 where everything held.
set -euo pipefail

mindroot_version=15.3.0
here=$(cd "$(dirname "$0")" && pwd)
tests=$here/mr_sip/tests
daemon='' keep='' port=8123

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; }
while (($#)); do
    case $1 in
    --daemon) daemon=$(realpath "$2"); shift 2 ;;
    --port) port=$2; shift 2 ;;
    --keep) keep=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done
if [[ $daemon ]]; then
    for program in baresip espeak-ng; do
        command -v "$program" >/dev/null || {
            echo "$program is needed: apt-get install baresip-core espeak-ng" >&2
            exit 2
        }
    done
fi
python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo 'python3 3.10 or newer with venv is needed: apt-get install python3 python3-venv' >&2
    exit 2
}

work=$(mktemp -d "${TMPDIR:-/tmp}/mr-sip-try.XXXXXX")
server='' callee=''
# shellcheck disable=SC2317 # the trap calls it
# Nothing that was started here outlives this script, whichever way it ends.
clean_up() {
    local status=$?
    trap - EXIT
    stop_server
    if [[ $callee ]]; then kill -9 "$callee" 2>/dev/null || true; fi
    # The daemon goes with MindRoot; should it not have, it is the one whose socket is in our folder.
    if [[ -f $work/daemon.pid ]]; then kill -9 "$(cat "$work/daemon.pid")" 2>/dev/null || true; fi
    if [[ $keep ]]; then echo "left for you to look at: $work"; else rm -rf "$work"; fi
    exit "$status"
}
stop_server() {
    [[ $server ]] || return 0
    kill -TERM "$server" 2>/dev/null || true
    for _ in {1..100}; do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=''
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step() { printf '%s %s\n' "$(date +%T)" "$*"; }
# Runs a command with its output in a file, with a dot every few seconds; shows the file where the command fails.
quietly() {
    local log=$work/$1.log status=0
    shift
    "$@" >"$log" 2>&1 &
    local job=$!
    while kill -0 "$job" 2>/dev/null; do
        sleep 3
        [[ -t 1 ]] && printf '.'
    done
    [[ -t 1 ]] && printf '\r'
    wait "$job" || status=$?
    ((status == 0)) || tail -n 30 "$log" >&2
    return "$status"
}

venv=${MINDROOT_VENV:-$work/venv}
if [[ ! -x $venv/bin/mindroot ]]; then
    step "installing mindroot $mindroot_version from PyPI (250 MB, a minute or two)"
    quietly venv python3 -m venv "$venv"
    # Newer FastAPI breaks MindRoot 15.3's login.
    quietly pip "$venv/bin/pip" install --disable-pip-version-check "mindroot==$mindroot_version" 'fastapi<0.137'
fi

step 'installing the plugins mr_sip and fake_llm'
mkdir "$work/plugins" "$work/site"
# Copies, so that nothing is written into the repository.
cp -r "$here/mr_sip" "$tests/fake_llm" "$work/plugins/"
find "$work/plugins" -name __pycache__ -prune -exec rm -rf {} + -o -name '*.egg-info' -prune -exec rm -rf {} +
quietly plugins "$venv/bin/pip" install --disable-pip-version-check -e "$work/plugins/mr_sip" -e "$work/plugins/fake_llm"

cd "$work/site"
JWT_SECRET_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
password=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
export JWT_SECRET_KEY MR_SIP_SOCKET=$work/run/control.sock MR_SIP_LOG_FILE=$work/daemon.log MR_SIP_LOG_LEVEL=INFO
mkdir -m 700 "$work/run"
for plugin in mr_sip fake_llm; do
    "$venv/bin/python" - "$plugin" "$work/plugins/$plugin" <<'PYTHON'
import sys
from mindroot.lib.plugins.manifest import update_plugin_manifest
update_plugin_manifest(sys.argv[1], "local", sys.argv[2])
PYTHON
done

step 'making a user, a key and an agent'
quietly user "$venv/bin/mindroot" user create tester tester@example.com --password "$password" --roles admin user verified
quietly key "$venv/bin/mindroot" apikey create tester
key=$(sed -n 's/^.*Key: *\([^ ]*\).*$/\1/p' "$work/key.log" | head -n 1)
mkdir -p data/agents/local/caller
cat >data/agents/local/caller/agent.json <<'JSON'
{"name": "caller", "persona": "Assistant", "instructions": "Telephone.", "flags": [],
 "commands": ["call", "hangup", "speak", "registered"], "required_plugins": [], "preferred_providers": [],
 "service_models": {"stream_chat": {"provider": "fake_llm", "model": "fake-1"}}}
JSON

# The plugin itself starts the daemon, which is what an administrator's first try does.
cat >"$work/mr-sip" <<'PROGRAM'
#!/bin/sh
echo $$ >"$TRY_FOLDER/daemon.pid"
exec ${TRY_DAEMON} "$@"
PROGRAM
chmod 755 "$work/mr-sip"
export MR_SIP_BIN=$work/mr-sip TRY_FOLDER=$work
if [[ $daemon ]]; then
    export TRY_DAEMON=$daemon MR_SIP_CONFIG=$work/mr-sip.toml
    cat >"$MR_SIP_CONFIG" <<TOML
[sip]
bind = "127.0.0.1:$((port + 1))"
[media]
bind_ip = "127.0.0.1"
realtime = false
[jack]
mode = "off"
[recording]
folder = "$work/recordings"
TOML
    step 'starting somebody to call'
    python3 "$tests/callee.py" prepare "$work/callee" "$((port + 2))" 'seven eight nine' 'four five six'
    baresip -f "$work/callee" >"$work/baresip.log" 2>&1 </dev/null &
    callee=$!
    disown "$callee"
    destination=sip:bob@127.0.0.1:$((port + 2))
    more=(--expect 'seven eight nine' --expect 'four five six' --interrupted --callee "$work/callee")
else
    export TRY_DAEMON="python3 $work/plugins/mr_sip/tests/fake_daemon.py --say USER_one --say USER_two"
    # The answer to the first sentence is interrupted by the second.
    destination=sip:alice@example.invalid
    more=(--expect alice_one --expect alice_two --pair carol dave --busy sip:busy@example.invalid --interrupted --daemon-log "$work/daemon.log")
fi

step "starting MindRoot on port $port"
"$venv/bin/mindroot" -p "$port" -u admin -pw "$password" >"$work/mindroot.log" 2>&1 </dev/null &
server=$!
for _ in {1..300}; do
    python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/healthz', timeout=1)" 2>/dev/null && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.2
done
if ! kill -0 "$server" 2>/dev/null; then
    echo 'MindRoot ended; its last words:' >&2
    tail -n 30 "$work/mindroot.log" >&2
    exit 1
fi

step 'driving it'
status=0
python3 "$tests/drive_mindroot.py" --url "http://127.0.0.1:$port" --key "$key" --site "$work/site" --agent caller \
    --destination "$destination" "${more[@]}" || status=1
if ((status)); then
    echo '--- MindRoot said:' >&2
    grep -a -i 'mr_sip\|Traceback\|Error' "$work/mindroot.log" | tail -n 40 >&2 || true
    echo '--- the daemon said:' >&2
    tail -n 40 "$work/daemon.log" >&2 || true
fi

step 'stopping MindRoot'
pid=$(cat "$work/daemon.pid" 2>/dev/null || true)
stop_server
for _ in {1..50}; do
    if [[ ! $pid ]] || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.1
done
if [[ ! $pid ]]; then
    echo '  FAIL the plugin did not start the daemon'
    status=1
elif kill -0 "$pid" 2>/dev/null; then
    echo '  FAIL the daemon that the plugin started outlived MindRoot'
    status=1
else
    echo '  ok   the daemon that the plugin started went with MindRoot'
fi
if ((status)); then step 'NOT WORKING'; else step 'WORKING: mr_sip calls, listens and speaks in MindRoot'; fi
exit "$status"
