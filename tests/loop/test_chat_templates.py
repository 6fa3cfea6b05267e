"""The place that is chosen for a template is a good one in any conversation, not only in those asked about.

With the templates of the tests; and with those of real models, where they are found beside the checkout
(`../shared/templates`). These carry terms of their own and are no part of this project.
"""

import random
from pathlib import Path

import pytest

from agent_service.domain import Placement, Profile
from agent_service.loop.probe import shows, trouble, without_figures
from agent_service.loop.scenes import SCENES, Scene, scene
from agent_service.model import ModelError
from tests.loop.test_probe import FOUND, found_for
from tests.servers.chat_template import ChatTemplate, Dialect, TemplateModel, own

REAL = Path(__file__).parents[3] / "shared" / "templates"

SYSTEM, USER, TOOL, TEXT = Placement
DIALECTS = [
    Dialect(objects, parts, nulls)
    for parts in (False, True)
    for objects in (True, False)
    for nulls in (False, True)
]

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
    "unsloth-mistral-Devstral-Small-2507": SYSTEM,
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


def scripts(seed: str, count: int) -> list[Scene]:
    """Conversations of up to four turns, each up to a request of the agent, with news at one safe point."""
    chance = random.Random(seed)
    return [scene("", " ".join(_steps(chance))) for _ in range(count)]


def _steps(chance: random.Random) -> list[str]:
    steps: list[str] = []
    for turn in range(chance.randint(1, 4)):
        if turn:
            steps.append("answer")
        steps += [*_interrupts(chance), "user", *_interrupts(chance)]
        for _ in range(chance.randint(0, 3)):
            steps += [chance.choice(["call", "call", "calls", "words+call"]), *_interrupts(chance)]
    if "interrupt" not in steps:
        return _steps(chance)
    # Those of one safe point have nothing between them.
    first = chance.choice([n for n, step in enumerate(steps) if step == "interrupt"])
    while first and steps[first - 1] == "interrupt":
        first -= 1
    while first < len(steps) and steps[first] == "interrupt":
        steps[first] = "NEWS"
        first += 1
    return steps


def _interrupts(chance: random.Random) -> list[str]:
    return ["interrupt"] * chance.choice([0, 0, 1, 2])


def real(name: str) -> TemplateModel:
    """In the first dialect in which it shows a conversation with tools, if there is one."""
    if not REAL.is_dir():
        pytest.skip("the templates of real models are not beside the checkout")
    source = (REAL / f"{name}.jinja").read_text()
    for dialect in DIALECTS:
        model = TemplateModel(ChatTemplate(source, dialect))
        if _shows_tools(model):
            return model
    return TemplateModel(ChatTemplate(source))


def _shows_tools(model: TemplateModel) -> bool:
    first = SCENES[0]
    try:
        return shows(
            first, model.template.prompt(first.request_without_news(Profile(TOOL, system_role=False)))
        )
    except ModelError:
        return False


async def hold_everywhere(model: TemplateModel, conversations: list[Scene]) -> int:
    """Check what is chosen in all conversations that the server takes without their news; count them."""
    found, held = await found_for(model), 0
    assert found
    for one in conversations:
        try:
            measure = without_figures(model.template.prompt(one.request_without_news(found.profile)))
        except ModelError:
            continue
        if shows(one, measure):
            prompt = without_figures(model.template.prompt(one.request(found.profile)))
            assert trouble(one, measure, prompt) is None
            held += 1
    return held


@pytest.mark.parametrize("name", FOUND)
async def test_in_any_conversation_interrupts_arrive_whole_once_in_order_and_change_nothing_before_them(
    name: str,
) -> None:
    assert await hold_everywhere(own(name), scripts(name, 60)) == 60


@pytest.mark.parametrize("name", NAMED)
async def test_with_the_template_of_a_real_model_too(name: str) -> None:
    model = real(name)
    found = await found_for(model)
    assert found
    assert found.profile.placement is NAMED[name]
    assert await hold_everywhere(model, scripts(name, 20)) > 0
