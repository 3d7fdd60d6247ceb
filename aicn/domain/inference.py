"""One inference request and the parts of its answer, the same for every facade, wire and backend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MOST_PARTS = 17  # files of one form: OpenAI takes 16 images and a mask


class Kind(Enum):
    """What is asked of a model. The value is the number on the wire (`proto/inference.proto`)."""

    CHAT = 1
    IMAGE_GENERATION = 2
    IMAGE_EDIT = 3
    EMBEDDING = 4
    COMPLETION = 5  # OpenAI's older call: a text that goes on

    @property
    def offered(self) -> Kind:
        """As what the models are offered and registered that do this: the servers of chats complete texts, too."""
        return Kind.CHAT if self is Kind.COMPLETION else self


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a multipart/form-data request (RFC 7578)."""

    name: str  # of the form's field
    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request as the client sent it, plus what is needed to route it."""

    id: str  # unique per request, in logs on both nodes
    kind: Kind
    project: str
    model: str
    body: bytes  # the client's JSON object, byte for byte, less `node_id` and `project`, with the model's own name
    stream: bool
    deadline: float  # absolute, trio.current_time() of this node; travels as milliseconds left
    key: str = ""  # id of the API key that it came with, on the node that was asked; empty: none
    parts: tuple[Part, ...] = ()  # files of a multipart form, whose other fields are the members of `body`


@dataclass(frozen=True, slots=True)
class Accepted:
    """A node has admitted the request."""

    queue_position: int = 0  # 0: it runs at once
    in_flight: int = 0  # requests of this model that run on the node, this one included


@dataclass(frozen=True, slots=True)
class Head:
    """How a model endpoint's HTTP answer begins."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...]  # names in lower case

    def get(self, name: bytes) -> str:
        """The value of a header by its lower-case name; empty when it is not there."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer, untouched: one or more whole SSE events of a streamed one, a part of the body of a plain one."""

    data: bytes
    comment: bool = False  # one SSE comment, such as news of a queue: no part of the answer, which has not begun by it


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the model endpoint counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete."""

    finish_reason: str = ""  # of the first choice; empty: the endpoint did not say
    usage: Usage | None = None  # None: the endpoint did not say
    queued_ms: int = 0  # on the worker, before a slot was free
    first_byte_ms: int = 0  # from the slot to the endpoint's first answer byte
    total_ms: int = 0  # from admission to the end
