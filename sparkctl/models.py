"""Models, and where they take interrupts."""

from datetime import tzinfo

from spark.agent.v1.agent_service_pb2 import CheckModelRequest
from spark.agent.v1.model_pb2 import Evidence, ModelCheck, Placement, PlacementTrial, Trouble
from sparkctl.connections import AgentService
from sparkctl.rows import Row, Tone
from sparkctl.words import clock, visible, word

# Longer than the service takes, however slow the model's server is.
CHECK_SECONDS = 40.0

_PLACES = {
    Placement.PLACEMENT_UNSPECIFIED: "nobody knows where",
    Placement.PLACEMENT_SYSTEM: "as system messages, in their place",
    Placement.PLACEMENT_USER: "as messages of the user, joined with one beside them",
    Placement.PLACEMENT_TOOL: "at the end of the last tool's response, elsewhere as messages of the user",
    Placement.PLACEMENT_TEXT: "in a conversation that is all text; no tools are offered",
}
_EVIDENCE = {
    Evidence.EVIDENCE_CONFIGURED: "spark.toml says so",
    Evidence.EVIDENCE_RENDERED: "its server showed the prompts that it makes",
    Evidence.EVIDENCE_COUNTED: "its server took or refused requests, and counted their tokens",
    Evidence.EVIDENCE_GUESSED: "a guess: nothing could be found out",
    Evidence.EVIDENCE_STEPPED_DOWN: "its server refused a request for the interrupt in it",
}
_TROUBLES = {
    Trouble.TROUBLE_UNSPECIFIED: "does",
    Trouble.TROUBLE_REFUSED: "the request is refused",
    Trouble.TROUBLE_DROPPED: "the interrupt is left out",
    Trouble.TROUBLE_DOUBLED: "the interrupt is there twice",
    Trouble.TROUBLE_MOVED: "the interrupt is moved",
    Trouble.TROUBLE_DISPLACES: "something else is left out for it",
    Trouble.TROUBLE_REWRITES: "what stands before it reads differently",
    Trouble.TROUBLE_UNMARKED: "nothing tells it from the words before it",
    Trouble.TROUBLE_UNOPENED: "it is not the model's turn after it",
    Trouble.TROUBLE_UNKNOWN_ROLE: "not possible",
    Trouble.TROUBLE_UNTRIED: "could not be found out",
}


async def check(agent: AgentService, name: str) -> ModelCheck:
    response = await agent.ask(agent.stub.CheckModel, CheckModelRequest(model=name), CHECK_SECONDS)
    return response.model_check


def rows(check: ModelCheck, zone: tzinfo | None = None) -> list[Row]:
    """What was found out, how, and what could not be."""
    served = f" ({visible(check.served_model)})" if check.served_model else ""
    shown = [Row(Tone.RULE, "", f"{visible(check.model)}{served} at {clock(check.check_time, zone)}")]
    if check.failure:
        return [*shown, Row(Tone.PROBLEM, "unknown", visible(check.failure))]
    shown.append(Row(Tone.AGENT, "interrupts", _PLACES.get(check.placement, str(check.placement))))
    if not check.system_role:
        text = "the model has no system role: its first message of the user holds the system prompt"
        shown.append(Row(Tone.AGENT, "system", text))
    shown.append(Row(Tone.AGENT, "known by", _EVIDENCE.get(check.evidence, str(check.evidence))))
    if check.trials:
        shown.append(Row(Tone.QUIET, "tried", "\n".join(map(_trial, check.trials))))
    return shown + [Row(Tone.PROBLEM, "note", visible(remark)) for remark in check.remarks]


def _trial(trial: PlacementTrial) -> str:
    said = _TROUBLES.get(trial.trouble, str(trial.trouble))
    parts = [word(Placement.DESCRIPTOR, trial.placement) + ":", said, visible(trial.where)]
    detail = f"({visible(trial.detail)})" if trial.detail else ""
    return " ".join(filter(None, [*parts, detail]))
