"""`aicn chat`: one question, or a conversation; the answer appears as the model writes it."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass

import click

from aicn.cli.answer import Answer
from aicn.cli.client import Api, ApiError, api_option, open_api
from aicn.cli.offers import Offer, find
from aicn.cli.output import harmless, json_option, note, show_json

CHAT_PATH = "/api/v0/chat/completion"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What stays the same from question to question."""

    api: Api
    offer: Offer
    options: dict[str, object]  # members of the request that the model understands: max_tokens, temperature

    def ask(self, messages: list[dict[str, str]], answer: Answer, *, quiet: bool = False) -> None:
        """Streams the answer to `messages` into `answer` and, unless `quiet`, to standard output."""
        body: dict[str, object] = {
            "node_id": self.offer.node,
            "project": self.offer.project,
            "model": self.offer.model,
            "messages": messages,
            "stream": True,
            **self.options,
        }
        with self.api.stream(CHAT_PATH, body) as chunks:
            try:
                for piece in answer.read(chunks):
                    if not quiet:
                        click.echo(harmless(piece), nl=False)
            finally:
                if not quiet and answer.pieces:
                    click.echo()

    def tell(self, answer: Answer) -> None:
        note(f"{self.offer.project} / {self.offer.model} on {self.offer.node}: {answer.summary()}")


@click.command(short_help="Talk to a model; the answer appears as it is written.")
@click.argument("prompt", required=False)
@click.option(
    "--node", metavar="ID", help="Who shall answer; by default this node, else a connected peer with the model."
)
@click.option("--project", metavar="NAME", help="Project of the model; by default the first that has it.")
@click.option("--model", metavar="NAME", help="The model; by default the first there is.")
@click.option("--system", metavar="TEXT", help="What the model is told to be, before the first question.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer.")
@click.option("--temperature", type=click.FloatRange(0, 2), metavar="T", help="0: always the likeliest word.")
@api_option
@json_option
def command(
    *,
    prompt: str | None,
    node: str | None,
    project: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    api: str,
    as_json: bool,
) -> None:
    """Ask PROMPT and print the answer as it comes. Without PROMPT: standard input when it is piped, else a conversation.

    In a conversation Ctrl-C stops the answer and Ctrl-D leaves. Who answered, and how fast, goes to standard error.
    """
    interactive = prompt is None and sys.stdin.isatty()
    if interactive and as_json:
        raise click.UsageError("--json needs a PROMPT, or a question on standard input.")
    if prompt is None and not interactive:
        prompt = sys.stdin.read()
    if not interactive and not (prompt or "").strip():
        raise click.UsageError("The question is empty.")
    given = {"max_tokens": max_tokens, "temperature": temperature}
    messages = [{"role": "system", "content": system}] if system else []
    with open_api(api) as client:
        conversation = Conversation(
            client,
            find(client, node=node, project=project, model=model),
            {name: value for name, value in given.items() if value is not None},
        )
        if interactive:
            _converse(conversation, messages)
        else:
            _ask_once(conversation, [*messages, {"role": "user", "content": prompt or ""}], as_json=as_json)


def _ask_once(conversation: Conversation, messages: list[dict[str, str]], *, as_json: bool) -> None:
    answer = Answer()
    conversation.ask(messages, answer, quiet=as_json)
    if not as_json:
        conversation.tell(answer)
        return
    offer = conversation.offer
    show_json(
        {
            "node": offer.node,
            "project": offer.project,
            "model": offer.model,
            "content": answer.text,
            "finish_reason": answer.finish_reason,
            "tokens": answer.tokens,
            "first_token_ms": answer.first_token_ms,
            "tokens_per_s": answer.tokens_per_s,
        }
    )


def _converse(conversation: Conversation, messages: list[dict[str, str]]) -> None:
    """Questions and answers until Ctrl-D. A question that failed is forgotten; an answer that was stopped is remembered."""
    with suppress(ImportError):  # Pythons built without it lose line editing, no more
        import readline  # noqa: F401 - importing it gives input() its history
    note(f"{conversation.offer.model} on {conversation.offer.node}. Ctrl-C stops an answer, Ctrl-D leaves.")
    while True:
        try:
            question = input("> ").strip()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            continue
        if not question:
            continue
        asked = [*messages, {"role": "user", "content": question}]
        answer = Answer()
        try:
            conversation.ask(asked, answer)
            conversation.tell(answer)
        except KeyboardInterrupt:
            note("stopped")
        except ApiError as error:
            error.show()
            continue
        messages = [*asked, {"role": "assistant", "content": answer.text}]
