"""An MCP server written by hand, which does what no server should. It speaks the protocol of 2025.

What it does at its start its arguments say, and what it does then the tool that is called.
"""

import json
import os
import signal
import subprocess
import sys
import time

START = sys.argv[1:]
BY_NAME = {"inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}}
# Each is a function of this name below.
TOOLS = [
    "pid",
    "environment",
    "die",
    "giant",
    "flood",
    "maze",
    "nag",
    "noise",
    "half",
    "nonsense",
    "refuse",
    "hang",
]
TOOLS += ["freeze", "hold", "grow", "grow_quietly", "spoil", "clutch", "spawn"]
TOOLS += [
    "stray",
    "scribble",
    "no_error",
    "empty",
    "figures",
    "hologram",
    "endless_number",
    "ask",
    "restless",
]
ANY = {"type": "object"}
RIDDLE = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
TEXT = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/text"}},
    "$defs": {"text": {"type": "string"}},
}
# Good and bad, with the argument `odd`.
ODD = [
    "no tool",
    {"name": 7, "inputSchema": ANY},
    {"name": "no_schema"},
    {"name": "text", "inputSchema": {"type": "string"}},
    {"name": "typo", "inputSchema": {**ANY, "properties": {"a": {"type": "strnig"}}}},
    {"name": "lost", "inputSchema": {**ANY, "properties": {"a": {"$ref": "#/$defs/text"}}}},
    {"name": "icon", "inputSchema": ANY, "icons": "a lamp"},
    {"name": "found", "inputSchema": TEXT},
    {"name": "riddle", "inputSchema": ANY, "outputSchema": RIDDLE},
    {"name": "get.page", "inputSchema": ANY},
    {"name": "größe", "inputSchema": ANY},
    {"name": "a" * 100, "inputSchema": ANY},
    {"name": "found", "inputSchema": ANY},
]
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
    global lists
    lists += 1
    if is_restless:
        send(method="notifications/tools/list_changed")
    if "many" in START:
        return {"tools": [{"name": f"t{n}", **BY_NAME} for n in range(5000)]}
    tools = [{"name": name, **BY_NAME} for name in TOOLS]
    return {"tools": tools + ODD if "odd" in START else tools}


def initialize(request):
    if "silent" in START:
        signal.pause()
    while "babble" in START:
        print("Loading the model …", flush=True)
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


def maze(path):
    """In one message, which takes a second to read."""
    return {"content": [], "structuredContent": {"a": [[]] * 300_000}}


def nag(path):
    """Asks and never listens."""
    while True:
        send(id="nag", method="ping")
        time.sleep(0.002)


def noise(path):
    print("Loading the model …\n\n{}\n[1, 2]\n\x00\xff{", flush=True)
    return text("quiet again")


def half(path):
    return text("half a character: \ud83d")


def nonsense(path):
    return {"content": "none"}


def stray(path):
    send(id=current + 1000, result=text("for nobody"))


def scribble(path):
    print(f'{{"jsonrpc": "2.0", "id": {current}, "result": {{"content": [', flush=True)


def no_error(path):
    send(id=current, error="no")


def empty(path):
    return {"content": []}


def figures(path):
    return {"content": [], "structuredContent": {"ships": 2}}


def hologram(path):
    return {"content": [{"type": "hologram", "data": "…"}]}


def riddle(path):
    """A result that is checked in no time, and only if nobody checks it."""
    return text("unsolved", structuredContent={"a": "a" * 60 + "!"})


def endless_number(path):
    """Progress that no float can hold, after which nothing is answered."""
    token = request["params"]["_meta"]["progressToken"]
    send(method="notifications/progress", params={"progressToken": token, "progress": 10**400})


def ask(path):
    """Asks for what only clients of people have. Says how it was answered."""
    answers = []
    for method in ("ping", "sampling/createMessage", "elicitation/create", "roots/list", "lamp/light"):
        params = {
            "messages": [],
            "maxTokens": 1,
            "message": "?",
            "requestedSchema": {**ANY, "properties": {}},
        }
        send(id=f"asked-{method}", method=method, params=params)
        answers.append("error" if "error" in json.loads(sys.stdin.readline()) else "result")
    return text(" ".join(answers))


def restless(path):
    """Changes its list whenever that is looked at. Says how often that was so far."""
    global is_restless
    if not is_restless:
        is_restless = True
        send(method="notifications/tools/list_changed")
    return text(str(lists))


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
            act = globals().get(called["name"], lambda path: text(called["name"]))
            return act(called["arguments"].get("path"))
        case other:
            raise ValueError(f"no method {other}")


if "deaf" in START:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "chatty" in START:
    subprocess.Popen(["yes"], stdout=sys.stderr)
if "broken" in START:
    sys.exit(3)
hung_path, current, held, lists, is_restless = None, None, [], 0, False
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
