"""An MCP server written by hand, which does what no server should. It speaks the protocol of 2025.

What it does at its start its arguments say, and what it does then the tool that is called.
"""

import json
import os
import signal
import subprocess
import sys

START = sys.argv[1:]
BY_NAME = {"inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}}
# Each is a function of this name below.
TOOLS = ["pid", "environment", "die", "giant", "flood", "noise", "half", "nonsense", "refuse", "hang"]
TOOLS += ["freeze", "hold", "grow", "grow_quietly", "spoil", "clutch", "spawn"]
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
INFO = {"name": "wild", "version": "1"}


def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def wait_for(path):
    """Until somebody opens the fifo and goes away."""
    with open(path) as fifo:
        fifo.read()


def write(path, words):
    with open(path, "w") as file:
        file.write(words)


def tools_list(request):
    return {"tools": [{"name": name, **BY_NAME} for name in TOOLS]}


def initialize(request):
    if "silent" in START:
        signal.pause()
    if "slow" in START:
        wait_for(START[1])
    capabilities = {"tools": {"listChanged": True}}
    return {
        "protocolVersion": "2025-11-25",
        "capabilities": capabilities,
        "serverInfo": {"name": "wild", "version": "1"},
    }


def pid(path):
    return text(str(os.getpid()))


def environment(path):
    return text(json.dumps(dict(os.environ)))


def die(path):
    os._exit(7)


def giant(path):
    return text("a" * 5_000_000)


def flood(path):
    while True:
        send(method="notifications/message", params={"level": "info", "data": "a"})


def noise(path):
    print("Loading the model …\n\n{}\n[1, 2]\n\x00\xff{", flush=True)
    return text("quiet again")


def half(path):
    return text("half a character: \ud83d")


def nonsense(path):
    return {"content": "none"}


def refuse(path):
    raise ValueError("not today")


def hang(path):
    """Until it is told that nobody waits any more. It writes down both."""
    global hung_path
    hung_path = path
    write(path, "waits")


def freeze(path):
    """For ever, whatever else is asked."""
    send(id=current, result=text("cold"))
    signal.pause()


def hold(path):
    """Whatever else is asked, until the test lets go."""
    wait_for(path)
    return text("held")


def grow(path):
    TOOLS.append("new")
    send(method="notifications/tools/list_changed")
    return text("grown")


def grow_quietly(path):
    TOOLS.append("new")
    return text("grown")


def spoil(path):
    """Offers a tool that does not take an object."""
    BY_NAME["inputSchema"] = {"type": "string"}
    send(method="notifications/tools/list_changed")
    return text("spoiled")


def clutch(path):
    """Holds on to a fifo, whose end is thus the end of the process."""
    held.append(os.open(path, os.O_WRONLY))
    return text("held")


def spawn(path):
    """A child that stops for nothing, and holds on to the fifo and to the stderr of its parent."""
    clutch(path)
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", stubborn],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=held[:1],
    )
    child.stdout.readline()
    held.append(child)
    return text("spawned")


def answer(request):
    match request["method"]:
        case "initialize":
            return initialize(request)
        case "tools/list":
            return tools_list(request)
        case "tools/call":
            called = request["params"]
            return globals()[called["name"]](called["arguments"].get("path"))
        case other:
            raise ValueError(f"no method {other}")


if "deaf" in START:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "broken" in START:
    sys.exit(3)
hung_path, current, held = None, None, []
for line in sys.stdin:
    request = json.loads(line)
    if request["method"] == "notifications/cancelled" and hung_path:
        write(hung_path, "was told")
    if "id" in request:
        current = request["id"]
        try:
            result = answer(request)
            if result:
                send(id=request["id"], result=result)
        except ValueError as error:
            send(id=request["id"], error={"code": -32602, "message": str(error)})
if "deaf" in START:
    while True:
        signal.pause()
