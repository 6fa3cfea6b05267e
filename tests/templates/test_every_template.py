"""The place that is chosen for a template is a good one in any conversation, and the others are not."""

from dataclasses import replace

import pytest

from agent_service.domain import Placement, Profile, Trouble
from agent_service.model import ModelError, Request
from tests.loop.test_probe import FOUND
from tests.servers.chat_template import ChatTemplate
from tests.templates.corpus import TEMPLATES, template
from tests.templates.judging import Judge, Render
from tests.templates.transcripts import transcripts

SYSTEM, USER, TOOL, TEXT = Placement
TRANSCRIPTS = 15
# Where one that fails is enough, of which there may be few.
MANY_TRANSCRIPTS = 100

# What is chosen for well-known models.
NAMED = {
    "meta-llama-Llama-3.1-8B-Instruct": SYSTEM,
    "trl-llama3": SYSTEM,
    "vllm-tool_chat_template_llama4_json": SYSTEM,
    "llama": TEXT,
    "unsloth-qwen3": SYSTEM,
    "trl-qwen3_instruct_2507": SYSTEM,
    "Qwen3-Coder": SYSTEM,
    "Qwen3.5-4B": TOOL,
    "trl-qwen3_6": TOOL,
    "ollama-qwen38_chat_template": USER,
    "TheBloke-Mixtral-8x7B-Instruct-v0.1-GPTQ": TEXT,
    "mistralai-Mistral-7B-Instruct-v0.3": TOOL,
    "mistralai-Mistral-Nemo-Instruct-2407": TOOL,
    "mistralrs-mistral_small_tool_call": TOOL,
    "unsloth-mistral-Devstral-Small-2507": USER,
    "google-gemma-2-2b-it": TEXT,
    "trl-gemma3": TEXT,
    "axolotl-gemma3n": TEXT,
    "google-gemma-4-31B-it-interleaved": SYSTEM,
    "ollamalib-deepseek-v2.5-236b": USER,
    "ollamalib-deepseek-v3-671b": USER,
    "deepseek-ai-DeepSeek-V3.1": USER,
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B_b": USER,
    "axolotl-phi_4": TEXT,
    "vllm-tool_chat_template_phi4_mini": USER,
    "ibm-granite-granite-3.3-2B-Instruct": SYSTEM,
    "CohereForAI-c4ai-command-r-plus-tool_use": SYSTEM,
    "CohereLabs-command-a-reasoning-08-2025": SYSTEM,
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": SYSTEM,
    "meetkai-functionary-medium-v3.2": SYSTEM,
    "moonshotai-Kimi-K2": SYSTEM,
    "moonshotai-Kimi-K2-Thinking": SYSTEM,
    "THUDM-glm-4-9b-chat": SYSTEM,
    "nodellama-harmonyJinjaTemplate": USER,
    "MiniMax-M2": TOOL,
    "NVIDIA-Nemotron-Nano-v2": USER,
    "ollama-nemotron3nano_chat_template": SYSTEM,
    "HuggingFaceTB-SmolLM3-3B": USER,
    "openinstruct-olmo_thinker": TEXT,
    "openinstruct-olmo": TEXT,
    "Apertus-8B-Instruct": USER,
    "ByteDance-Seed-OSS": SYSTEM,
    "LFM2.5-8B-A1B": SYSTEM,
    "axolotl-exaone4": SYSTEM,
    "axolotl-falcon_h1": USER,
    "vllm-tool_chat_template_hunyuan_a13b": USER,
    "StepFun3.5-Flash": SYSTEM,
    "upstage-Solar-Open-100B": USER,
    "Reka-Edge": USER,
    "vllm-tool_chat_template_xlam_qwen": SYSTEM,
    "vllm-tool_chat_template_toolace": SYSTEM,
    "unsloth-Apriel-1.5": SYSTEM,
    "openbmb-MiniCPM5-1B": SYSTEM,
    "poolside-Laguna-XS-2.1": SYSTEM,
}


def as_transformers_does(template: ChatTemplate) -> Render:
    async def render(request: Request) -> str:
        return template.prompt(request)

    return render


@pytest.mark.parametrize("name", TEMPLATES)
async def test_in_any_conversation_interrupts_arrive_whole_once_in_order_and_change_nothing_before_them(
    name: str,
) -> None:
    judge = await Judge.of(as_transformers_does(template(name)))
    assert judge.profile.placement is NAMED.get(name, judge.profile.placement)
    await judge.holds_in(transcripts(name, TRANSCRIPTS))


# That nothing marks the interrupt is not judged.
PASSED_OVER = [
    (name, placement)
    for name, (_, _, troubles) in FOUND.items()
    for placement, trouble in zip(Placement, troubles, strict=False)
    if trouble is not Trouble.UNMARKED
]


@pytest.mark.parametrize(("name", "placement"), PASSED_OVER)
async def test_a_place_that_is_passed_over_would_not_do_in_all_of_them(
    name: str, placement: Placement
) -> None:
    chosen = await Judge.of(as_transformers_does(template(name)))
    judge = replace(chosen, finding=replace(chosen.finding, profile=Profile(placement)))
    with pytest.raises((AssertionError, ModelError)):
        await judge.holds_in(transcripts(name, MANY_TRANSCRIPTS))
