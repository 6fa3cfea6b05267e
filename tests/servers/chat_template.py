"""A model whose server is a chat template and nothing else: it makes prompts as transformers makes them, and
can show them, or count their tokens."""

import json
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agent_service.domain import JsonObject, Placement, RoundFailure, Usage
from agent_service.model import Chunk, ModelError, Request, Served

OWN = Path(__file__).parent.parent / "data" / "templates"
BLOCK_TOKENS = 16

_TOKEN = re.compile(r"\w+|[^\w\s]")
_SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class _Generation(Extension):
    """The block that marks what a model is trained on."""

    tags = {"generation"}  # noqa: RUF012 (as its base has it)

    def parse(self, parser: Parser) -> Sequence[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _json(value: object, ensure_ascii: bool = False, **options: object) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def own_template(name: str) -> str:
    return (OWN / f"{name}.jinja").read_text()


@dataclass(frozen=True)
class Dialect:
    """What templates differ in wanting: arguments of calls as objects, content in parts, or null for none."""

    objects: bool = True
    parts: bool = False
    nulls: bool = False

    def told(self, message: JsonObject) -> JsonObject:
        told = dict(message)
        if calls := message.get("tool_calls"):
            told["tool_calls"] = [self._call(call) for call in calls]
            if self.nulls and not message["content"]:
                told["content"] = None
        if self.parts and isinstance(told["content"], str):
            told["content"] = [{"type": "text", "text": told["content"]}]
        return told

    def _call(self, call: JsonObject) -> JsonObject:
        function = call["function"]
        arguments = json.loads(function["arguments"]) if self.objects else function["arguments"]
        return {**call, "function": {**function, "arguments": arguments}}


@dataclass
class ChatTemplate:
    """A template in the hands of a server. A clock that runs tells its prompts apart."""

    source: str
    dialect: Dialect = Dialect()
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    _compiled: Template = field(init=False)

    def __post_init__(self) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: self.now.strftime(form)
        self._compiled = environment.from_string(self.source)

    def prompt(self, request: Request) -> str:
        """Raises ModelError as a server refuses a request."""
        tools = [{"type": "function", "function": asdict(tool)} for tool in request.tools]
        messages = [self.dialect.told(message) for message in request.messages]
        try:
            return self._compiled.render(
                messages=messages,
                tools=tools or None,
                documents=None,
                functions=_json(tools),
                datetime=self.now.isoformat(),
                add_generation_prompt=True,
                **_SPECIAL_TOKENS,
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            detail = f"the model server answered 400: {error}"
            raise ModelError(RoundFailure.MODEL_REFUSED, detail, status=400) from None


@dataclass
class TemplateModel:
    """Behind a template that can be put away for another. Says the same to every request, if it takes it."""

    template: ChatTemplate
    shows: bool = True
    counts: bool = True
    remembers: bool = True
    placement: Placement | None = None
    prompts: list[str] = field(default_factory=list)
    rendered: list[Request] = field(default_factory=list)

    @property
    def served(self) -> Served:
        return Served("http://template/v1", "template", self.placement)

    async def context_window(self) -> int | None:
        return None

    async def render(self, request: Request) -> str | None:
        if not self.shows:
            return None
        self.rendered.append(request)
        return self.template.prompt(request)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        prompt = self.template.prompt(request)
        usage = self._usage(prompt)
        self.prompts.append(prompt)
        yield Chunk("Done.")
        yield Chunk(usage=usage, begun=False)

    def _usage(self, prompt: str) -> Usage:
        if not self.counts:
            return Usage()
        tokens = _TOKEN.findall(prompt)
        at_hand = max((_common(tokens, _TOKEN.findall(earlier)) for earlier in self.prompts), default=0)
        blocks = at_hand // BLOCK_TOKENS * BLOCK_TOKENS
        return Usage(len(tokens), blocks if self.remembers else 0, 1)


def own(name: str, **how: object) -> TemplateModel:
    return TemplateModel(ChatTemplate(own_template(name)), **how)


def _common(one: Iterable[str], other: Iterable[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
