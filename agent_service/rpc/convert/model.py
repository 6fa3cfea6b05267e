"""What was found out about models, on its way out."""

from agent_service.domain import Evidence, ModelCheck, Placement, Trial, Trouble
from agent_service.rpc.convert import enums
from agent_service.rpc.convert.fields import timestamp
from spark.agent.v1 import model_pb2

_PLACEMENT_NUMBERS = enums.numbers(Placement, model_pb2.Placement.Value, "PLACEMENT")
_EVIDENCE_NUMBERS = enums.numbers(Evidence, model_pb2.Evidence.Value, "EVIDENCE")
_TROUBLE_NUMBERS = enums.numbers(Trouble, model_pb2.Trouble.Value, "TROUBLE")


def model_check_proto(check: ModelCheck) -> model_pb2.ModelCheck:
    proto = model_pb2.ModelCheck(
        model=check.name,
        served_model=check.model,
        failure=check.failure,
        check_time=timestamp(check.time),
    )
    if found := check.finding:
        proto.placement = _PLACEMENT_NUMBERS[found.profile.placement]
        proto.system_role = found.profile.system_role
        proto.evidence = _EVIDENCE_NUMBERS[found.evidence]
        proto.trials.extend(map(_trial_proto, found.trials))
        proto.remarks.extend(found.remarks)
    return proto


def _trial_proto(trial: Trial) -> model_pb2.PlacementTrial:
    return model_pb2.PlacementTrial(
        placement=_PLACEMENT_NUMBERS[trial.placement],
        trouble=_TROUBLE_NUMBERS[trial.trouble] if trial.trouble else model_pb2.TROUBLE_UNSPECIFIED,
        where=trial.where,
        detail=trial.detail,
    )
