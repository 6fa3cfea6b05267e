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
    Placement.PLACEMENT_TEXT: "in a conversation that is all text; no tools are offered to the model",
}
_EVIDENCE = {
    Evidence.EVIDENCE_CONFIGURED: "the configuration says so",
    Evidence.EVIDENCE_RENDERED: "its server showed the prompts that it makes",
    Evidence.EVIDENCE_COUNTED: "its server took or refused requests, and counted their tokens",
    Evidence.EVIDENCE_GUESSED: "nothing: it is a guess, the place that the fewest models refuse",
    Evidence.EVIDENCE_STEPPED_DOWN: "its server refused a request for the interrupt in it",
}
_TROUBLES = {
    Trouble.TROUBLE_UNSPECIFIED: "arrives",
    Trouble.TROUBLE_REFUSED: "is refused",
    Trouble.TROUBLE_DROPPED: "is left out",
    Trouble.TROUBLE_DOUBLED: "is there twice",
    Trouble.TROUBLE_MOVED: "is moved to another place",
    Trouble.TROUBLE_DISPLACES: "drives out something else, such as what the model thought,",
    Trouble.TROUBLE_REWRITES: "changes what stands before it",
    Trouble.TROUBLE_UNMARKED: "does not stand out from the words before it",
    Trouble.TROUBLE_UNOPENED: "takes the model's turn from it",
    Trouble.TROUBLE_UNKNOWN_ROLE: "is not possible",
    Trouble.TROUBLE_UNTRIED: "could not be found out",
}
_NOT_FOUND_OUT = "whether the model heeds what it is shown there: no check tells, only its work does"


async def check(agent: AgentService, name: str) -> ModelCheck:
    response = await agent.ask(agent.stub.CheckModel, CheckModelRequest(model=name), CHECK_SECONDS)
    return response.model_check


def rows(check: ModelCheck, zone: tzinfo | None = None) -> list[Row]:
    """What was found out, how, what could not be, and what to do about it."""
    served = f" ({visible(check.served_model)})" if check.served_model else ""
    heading = Row(Tone.RULE, "", f"{visible(check.model)}{served} at {clock(check.check_time, zone)}")
    found = [Row(Tone.PROBLEM, "failed", visible(check.failure))] if check.failure else _found(check)
    advice = _advice(check)
    return [heading, *found, *([Row(Tone.PROBLEM, "to do", advice)] if advice else [])]


def _found(check: ModelCheck) -> list[Row]:
    place = word(Placement.DESCRIPTOR, check.placement)
    shown = [
        Row(Tone.AGENT, "interrupts", f"{place}: {_PLACES.get(check.placement, 'unknown to this sparkctl')}"),
        Row(Tone.AGENT, "known by", _EVIDENCE.get(check.evidence, str(check.evidence))),
    ]
    if not check.system_role:
        text = "the model has no system role: its first message of the user holds the system prompt"
        shown.append(Row(Tone.AGENT, "system", text))
    if check.trials:
        shown.append(Row(Tone.QUIET, "tried", "\n".join(map(_trial, check.trials))))
    shown += [Row(Tone.PROBLEM, "note", visible(remark)) for remark in check.remarks]
    return [*shown, Row(Tone.QUIET, "not known", _NOT_FOUND_OUT)]


def _trial(trial: PlacementTrial) -> str:
    said = _TROUBLES.get(trial.trouble, str(trial.trouble))
    parts = [word(Placement.DESCRIPTOR, trial.placement) + ":", said, visible(trial.where)]
    detail = f"({visible(trial.detail)})" if trial.detail else ""
    return " ".join(filter(None, [*parts, detail]))


def _advice(check: ModelCheck) -> str:
    table = f"[models.{visible(check.model)}] in spark.toml"
    if check.failure:
        return (
            f"mend the server, or {table} and start the agent service again; sessions that need the model "
            "wait, and try again by themselves"
        )
    if check.evidence == Evidence.EVIDENCE_GUESSED:
        return f"if you know what its chat template does with interrupts, set placement in {table}"
    if check.evidence == Evidence.EVIDENCE_CONFIGURED and check.placement in _that_fail(check):
        return f"take placement out of {table}, or set one that was not in trouble"
    return ""


def _that_fail(check: ModelCheck) -> set[Placement.ValueType]:
    return {trial.placement for trial in check.trials if trial.trouble}
