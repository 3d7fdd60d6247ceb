"""Program of the child process that serves one GGUF file: llama.cpp's own OpenAI server, from the xllamacpp wheel.

Started by `local_model` as a script, it imports nothing of aicn. It says one line on stdout when it serves,
`{"url": "http://127.0.0.1:<port>/<secret>"}`, and logs on stderr. The secret path keeps out the machine's other users and web pages
that probe loopback ports. It listens on loopback only and downloads nothing.

Its life hangs on its stdin, a pipe that the node holds open: when the node closes it or dies, however it dies, the kernel kills this
process. Ctrl-C and SIGTERM are left to the node, which lets running answers finish first.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import signal
import sys

PROMPT_CACHE_MIB = 256  # kept prompts of earlier conversations; llama.cpp's own default is 8 GiB
LOG_WARNINGS = 2  # llama.cpp's verbosity: 3 adds seven lines per request


def main() -> None:
    """Serve until the node goes away."""
    arguments = _arguments()
    end_with(sys.stdin.fileno())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    say = os.dup(sys.stdout.fileno())
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # whatever the engine prints is log, and cannot fill the pipe of that one line
    _server, url = serve(arguments)
    os.write(say, json.dumps({"url": url}).encode() + b"\n")
    os.close(say)
    sys.stdin.buffer.read()  # where the kernel does not do it
    os._exit(0)  # `_server` serves up to here; no waiting for its threads


def end_with(pipe: int) -> None:
    """Have the kernel kill this process when the writer of `pipe` is gone.

    A thread that reads would do, were it not for the interpreter lock, which the engine holds while it loads a model, and for a frozen
    process. PR_SET_PDEATHSIG would not: it hangs on the parent's thread, and trio starts children from short-lived threads.
    """
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # gone before we asked
        os._exit(0)


def serve(arguments: argparse.Namespace) -> tuple[object, str]:
    """Load the model and serve it from the engine's threads: the server, and its address with the secret path. RuntimeError if it cannot."""
    import xllamacpp

    secret = secrets.token_hex(16)
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {arguments.alias}
    params.n_ctx = arguments.ctx * arguments.parallel  # the engine divides it among its slots
    params.n_parallel = arguments.parallel
    params.cont_batching = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.hostnames = ["127.0.0.1"]
    params.port = arguments.port
    params.api_prefix = f"/{secret}"
    params.cors_origins = ""  # not a web page's business
    params.endpoint_slots = False
    params.ui = False
    params.offline = True
    params.verbosity = LOG_WARNINGS
    server = xllamacpp.Server(params)
    return server, f"{server.listening_address}/{secret}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--alias", required=True, help="name of the model in the API")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ctx", type=int, required=True, help="tokens per conversation")
    parser.add_argument("--parallel", type=int, required=True, help="conversations at once")
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
