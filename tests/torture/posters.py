"""Those who post, take back, repeat, and repeat wrongly."""

from collections import deque
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from spark.agent.v1.agent_service_pb2 import Deposit, DepositInterruptsRequest
from spark.agent.v1.interrupt_pb2 import (
    DELIVERY_IMMEDIATE,
    DELIVERY_NEXT_ROUND,
    DELIVERY_NEXT_TURN,
    DELIVERY_UNSPECIFIED,
    Interrupt,
    Notification,
    Nudge,
)
from spark.gateway.v1.gateway_service_pb2 import (
    BatchPostInterruptsRequest,
    CancelInterruptRequest,
    PostInterruptRequest,
)
from tests.torture.town import Town

_DELIVERIES = (DELIVERY_UNSPECIFIED, DELIVERY_NEXT_ROUND, DELIVERY_NEXT_TURN, DELIVERY_IMMEDIATE)
_NUDGING = ("operator", "user:ryan", "service:optimizer", "agent")
_NOTIFYING = (*_NUDGING, "cron:morning", "webhook:ci")


async def post(name: str, town: Town, chance: Random) -> None:
    """Each post until somebody says what came of it, even after it is enough."""
    poster = _Poster(name, town, chance)
    while not town.enough.is_set():
        await poster.do_something()
        await town.rest(chance.uniform(0, 1))


class _Poster:
    def __init__(self, name: str, town: Town, chance: Random) -> None:
        self._name, self._town, self._chance = name, town, chance
        self._numbers = count()
        self._posted_before: deque[PostInterruptRequest] = deque(maxlen=100)

    async def do_something(self) -> None:
        habits = {
            self._post: 10,
            self._post_twice: 2,
            self._post_again: 3,
            self._post_and_cancel: 2,
            self._post_newer: 2,
            self._post_a_batch: 1,
            self._deposit: 2,
        }
        [habit] = self._chance.choices(list(habits), list(habits.values()))
        await habit()

    async def _post(self) -> PostInterruptRequest:
        request = self._drawn()
        await self._posted(request)
        self._posted_before.append(request)
        return request

    async def _posted(self, request: PostInterruptRequest) -> str:
        """The id of the interrupt, empty if it was refused."""
        answered = await self._town.ask_gateways(self._name, "PostInterrupt", request)
        if not answered.message:
            return ""
        self._town.posted.append(answered.message.interrupt.interrupt_id)
        return answered.message.interrupt.interrupt_id

    async def _post_twice(self) -> None:
        """The second time perhaps with other words, which is refused."""
        request = await self._post()
        if self._chance.random() < 0.3:
            request.interrupt.ClearField("notification")
            request.interrupt.nudge.text = "Something else."
        await self._posted(request)

    async def _post_again(self) -> None:
        """As who never heard what came of it: its time may be over by now, or its session."""
        if self._posted_before:
            await self._posted(self._chance.choice(self._posted_before))

    async def _post_and_cancel(self) -> None:
        request = self._drawn()
        request.interrupt.delivery = DELIVERY_NEXT_TURN
        if interrupt_id := await self._posted(request):
            cancel = CancelInterruptRequest(interrupt_id=interrupt_id)
            await self._town.ask_gateways(self._name, "CancelInterrupt", cancel)

    async def _post_newer(self) -> None:
        """News, which take the place of those before them."""
        session_id = self._town.any_session()
        for _ in range(2):
            news = self._drawn()
            news.interrupt.session_id, news.interrupt.source = session_id, "service:news"
            news.interrupt.delivery, news.interrupt.coalesce_key = DELIVERY_NEXT_TURN, "news"
            await self._posted(news)

    async def _post_a_batch(self) -> None:
        batch = BatchPostInterruptsRequest(
            requests=[self._drawn() for _ in range(self._chance.randint(2, 8))]
        )
        await self._town.ask_gateways(self._name, "BatchPostInterrupts", batch)

    async def _deposit(self) -> None:
        """Straight into an agent service, as a gateway does."""
        drawn = self._drawn()
        deposit = Deposit(interrupt=drawn.interrupt, request_id=drawn.request_id)
        await self._town.ask_agents(
            self._name, "DepositInterrupts", DepositInterruptsRequest(deposits=[deposit])
        )

    def _drawn(self) -> PostInterruptRequest:
        chance, number = self._chance, next(self._numbers)
        town = self._town
        session_id = chance.choice((town.any_session, town.busy_session))()
        interrupt = Interrupt(session_id=session_id, delivery=chance.choice(_DELIVERIES))
        words = f"{self._name} says {number}." + " Look north." * chance.choice((0, 1, 2, 40))
        if chance.random() < 0.5:
            interrupt.source = self._source(_NUDGING)
            interrupt.nudge.CopyFrom(Nudge(text=words))
        else:
            interrupt.source = self._source(_NOTIFYING)
            data = ParseDict({"number": number}, Struct())
            interrupt.notification.CopyFrom(Notification(type="job.progress", text=words, data=data))
        if chance.random() < 0.25:
            interrupt.coalesce_key = chance.choice("ab")
        if chance.random() < 0.15:
            due = datetime.now(UTC) + timedelta(seconds=chance.uniform(0.05, 2))
            interrupt.expire_time.FromDatetime(due)
        return PostInterruptRequest(interrupt=interrupt, request_id=f"{self._name}-{number}")

    def _source(self, sources: tuple[str, ...]) -> str:
        source = self._chance.choice(sources)
        return f"agent:{self._town.any_session()}" if source == "agent" else source
