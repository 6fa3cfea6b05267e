"""A real model server for tests: llama.cpp with the tiny model, as a process that can be killed.

`python tests/servers/llama.py --port 0` prints `listening HOST:PORT` and serves until SIGTERM. The
model is a Qwen3 of a million parameters that knows one script. The last message that is not its own decides:

    nudge                                                        "I have seen the nudge."
    what time is it, with a tool `now` that has a string `tz`    now({"tz": "UTC"})
    take a rest, with a tool `wait` that has a number `seconds`  wait({"seconds": 1})
    a tool response                                              "The tool answered."
    anything else                                                "I keep working."

It is right up to about 1,800 prompt tokens. The words must not stand in a system prompt.
"""

import argparse
import signal
from pathlib import Path

import xllamacpp

HOST = "127.0.0.1"
SLOTS = 4
MODEL = Path(__file__).parent.parent / "data" / "tiny.gguf"


def parameters(port: int, context: int, endless: bool, template: Path | None) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = str(MODEL), {"tiny"}
    params.hostnames, params.port = [HOST], port
    params.n_ctx, params.n_parallel, params.warmup = context * SLOTS, SLOTS, False
    params.endpoint_slots = True
    # Threads that wait for one another spin, which is slow where there is other work.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.sampling.ignore_eos = params.ctx_shift = endless
    if template:
        params.chat_template = template.read_text()
    return params


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--context", type=int, default=4096, help="tokens for a request and its reply")
    parser.add_argument("--endless", action="store_true", help="write until the client goes away")
    parser.add_argument("--template", type=Path, help="a chat template in the place of the model's own")
    arguments = parser.parse_args()

    # Blocked before the server makes its threads, which inherit this: sigwait gets the signal then.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    server = xllamacpp.Server(
        parameters(arguments.port, arguments.context, arguments.endless, arguments.template)
    )
    print("listening", server.listening_address.removeprefix("http://"), flush=True)
    signal.sigwait(signals)
    del server


if __name__ == "__main__":
    main()
