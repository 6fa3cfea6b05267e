"""Asks models for a session: shows their words as they come, and cancels a request that is not wanted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from agent_service.domain import Message, RoundFailure, Speaker, Usage
from agent_service.errors import ConfigNotFound
from agent_service.loop import prompt
from agent_service.loop.conversation import voice_messages
from agent_service.loop.deltas import Deltas
from agent_service.loop.interruption import Interrupted, Interruption, to_its_end
from agent_service.loop.window import Window, size
from agent_service.loop.work import Work
from agent_service.model import Model, ModelError, Reply, ReplyFold, Request
from agent_service.store.room import Room
from agent_service.store.transcript import Transcript
from agent_service.wakeups import Wakeups


@dataclass(frozen=True, slots=True)
class Asker:
    """Asking raises ModelError where the request came to nothing, LeaseLost where the session is no longer
    ours, and Unavailable where nobody knows what was written."""

    transcript: Transcript
    room: Room
    # The model of a name. Raises ConfigNotFound.
    model: Callable[[str], Model]
    wakeups: Wakeups
    interruption: Interruption

    async def window(self, work: Work) -> Window:
        """The context window of the models: of several the narrowest."""
        try:
            models = [self.model(name) for name in work.models]
        except ConfigNotFound:
            return replace(work.window, tokens=None)
        known = [await model.context_window() for model in models]
        return replace(work.window, tokens=min((tokens for tokens in known if tokens), default=None))

    async def reply(self, work: Work, speaker: Speaker) -> Reply:
        """Ask the agent's model, or its inner voice. An interrupt with immediate delivery cancels the
        request, once in a round: that is told, and Interrupted is raised."""
        request, fold = _request(work, speaker, work.rows), ReplyFold()
        heeded = None if work.interrupted else work.revision
        try:
            async with self.interruption.of(work.lease, heeded):
                with _priced(work.window, request, fold):
                    await self._stream(work, speaker, request, fold)
        except Interrupted:
            why = "an interrupt with immediate delivery"
            cost = _estimate(work.window, request, fold)
            await self.transcript.fail_request(work.lease, work.place, RoundFailure.INTERRUPTED, why, cost)
            raise
        except ModelError as error:
            if error.reason is RoundFailure.CONTEXT_OVERFLOW:
                await self._learn(work, request, fold, work.window.refused(_size(request)))
            raise
        await self._learn(work, request, fold, Window(work.window.tokens))
        return _counted(work.window, fold, request)

    async def summary(self, work: Work, request: Request) -> Reply:
        """Ask the agent's model for a summary. Nobody watches, no interrupt cancels it, and it sees nothing:
        what it is shown is for compaction only."""
        fold = ReplyFold()
        async with (
            self.interruption.of(work.lease, after_revision=None),
            aclosing(self._model(work, Speaker.ASSISTANT).stream(request)) as chunks,
        ):
            with _priced(work.window, request, fold):
                async for chunk in chunks:
                    fold.add(chunk)
        return _counted(work.window, fold, request)

    async def takes(self, work: Work, speaker: Speaker, rows: Sequence[Message]) -> bool:
        """Whether the server takes the speaker's request with no more than these rows."""
        request = replace(_request(work, speaker, rows), max_tokens=1)
        try:
            async with (
                self.interruption.of(work.lease, after_revision=None),
                aclosing(self._model(work, speaker).stream(request)) as chunks,
            ):
                async for chunk in chunks:
                    if chunk.begun:
                        return True
        except ModelError:
            pass
        return False

    async def _stream(self, work: Work, speaker: Speaker, request: Request, fold: ReplyFold) -> None:
        """Show a model's words as they come. What the agent's request contains is seen at the first chunk of
        the reply, which is committed before anything of the answer is."""
        shown = bool(work.unseen) and speaker is Speaker.ASSISTANT
        deltas = Deltas(work.place, speaker)
        async with aclosing(self._model(work, speaker).stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.begun and shown and work.unseen:
                    await to_its_end(self._see(work))
                fold.add(chunk)
                for delta in deltas.of(chunk):
                    self.wakeups.say(work.lease.session_id, delta)
        if shown and work.unseen:
            raise ModelError(RoundFailure.BAD_REPLY, "the model's reply was empty")

    async def _learn(self, work: Work, request: Request, fold: ReplyFold, window: Window) -> None:
        """Go on with the window as the server's count of the request shows it, or else as given."""
        if counted := fold.usage.input_tokens:
            window = window.counted(_size(request), counted)
        if window != work.window:
            await self.room.learn(work.lease, window.bytes_per_token)
            work.window = window

    async def _see(self, work: Work) -> None:
        await self.transcript.see(work.lease, work.unseen)
        work.unseen.clear()

    def _model(self, work: Work, speaker: Speaker) -> Model:
        try:
            return self.model(work.model(speaker))
        except ConfigNotFound as error:
            raise ModelError(RoundFailure.MODEL_REFUSED, str(error)) from None


def _request(work: Work, speaker: Speaker, rows: Sequence[Message]) -> Request:
    if speaker is Speaker.ASSISTANT:
        return Request(work.messages_of(rows), work.tools)
    tag, instruction = work.frame_tag, work.config.inner_voice_prompt
    told = prompt.inner_voice_prompt(work.goal, tag, instruction)
    return Request(voice_messages(work.voice_profile, told, prompt.OPENING_LINE, tag, rows))


@contextmanager
def _priced(window: Window, request: Request, fold: ReplyFold) -> Iterator[None]:
    """What comes to nothing after its reply had begun has cost something all the same."""
    try:
        yield
    except ModelError as error:
        if fold.text:
            error.cost = _cost(window, request, fold)
        raise


def _counted(window: Window, fold: ReplyFold, request: Request) -> Reply:
    """The reply with what it has cost."""
    return replace(fold.reply(), usage=replace(_cost(window, request, fold), model_requests=1))


def _cost(window: Window, request: Request, fold: ReplyFold) -> Usage:
    """As the server counted it, or by estimate where it counts nothing."""
    counted = fold.usage.input_tokens or fold.usage.output_tokens
    return fold.usage if counted else _estimate(window, request, fold)


def _estimate(window: Window, request: Request, fold: ReplyFold) -> Usage:
    """What a request may have cost that nobody has counted."""
    said = size("".join(fold.text + fold.reasoning))
    return Usage(input_tokens=window.count(_size(request)), output_tokens=window.count(said))


def _size(request: Request) -> int:
    return sum(size(str(part)) for part in (*request.messages, *request.tools))
